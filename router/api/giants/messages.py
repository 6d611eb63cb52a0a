"""Messages between a router and the processes that read giant prompts for it, as bytes.

Each is a MessagePack array whose first item names it, behind four bytes of length, over one end of
a socket pair; the ends trust each other and nobody else can reach them. Blocking, and without the
interpreter's lock: for threads and processes that have nothing else to do.
"""

import datetime
import socket
import struct
from dataclasses import dataclass
from typing import TypeAlias

import msgpack
import msgspec

from radixroute.request.chat import NO_DATE
from radixroute.request.limits import Limits

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Load:
    """The tokenizer of all prompts that follow."""

    files: dict[str, bytes]  # by name


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt to be read."""

    number: int
    form: str
    data: bytes
    limits: tuple[int, ...]  # the fields of `Limits`
    root: bytes  # of the names of its pieces; empty: none are remembered
    today: int  # the day that a chat template prints, by its number


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody waits for it any more; it may have been answered already."""

    number: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """The answer: token ids, packed."""

    number: int
    packed: bytes
    memo: tuple[int, ...]  # the fields of `MemoCounts` so far, and what the memo takes in bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to what its client must change."""

    number: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The answer to whoever does not wait any more."""

    number: int


Message: TypeAlias = Load | Read | Stop | Tokens | Refused | Stopped

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Load, Read, Stop, Tokens, Refused, Stopped)
}


def read_job(
    number: int,
    form: str,
    data: bytes,
    limits: Limits,
    root: bytes = b"",
    today: datetime.date = NO_DATE,
) -> Read:
    """The limits travel with each prompt: they are the fleet's, and a fleet may change."""
    return Read(number, form, data, msgspec.structs.astuple(limits), root, today.toordinal())


def limits_of(job: Read) -> Limits:
    return Limits(*job.limits)


def send(sock: socket.socket, message: Message) -> None:
    """Raises `OSError` when the other end is gone."""
    fields = [getattr(message, name) for name in message.__slots__]
    data: bytes = msgpack.packb([type(message).__name__, *fields])
    sock.sendall(_LENGTH.pack(len(data)))
    sock.sendall(data)


def receive(sock: socket.socket) -> Message:
    """Waits. Raises `EOFError` or another `OSError` when the other end is gone."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size))
    kind, *fields = msgpack.unpackb(_exactly(sock, length), use_list=False, max_bin_len=length)
    return _KINDS[kind](*fields)


def _exactly(sock: socket.socket, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    left = memoryview(data)
    while left:
        n_received = sock.recv_into(left)
        if not n_received:
            raise EOFError("the other end is gone")
        left = left[n_received:]
    return data
