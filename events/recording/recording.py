"""The form of a recording: what streams sent, frame for frame as it was received, and when.

One file: `MAGIC`, then records. A record is a head of 12 bytes (length of the body, CRC-32 of the
body, CRC-32 of these two; u32 little endian) and its body in MessagePack. The first is the header.
Frames are never decoded on the way in, so nothing that a decoder would refuse is lost. Pure.

Since the head has a sum of its own, its length can be believed: a record that is shorter than its
head says is a cut-off tail, everything else that does not add up is damage.
"""

import zlib
from enum import IntEnum
from struct import Struct
from typing import Annotated, Final, TypeAlias

import msgpack
import msgspec

from radixroute.events.errors import LocalEventError, RecordingError
from radixroute.radix.ids import Holder, WorkerId

# As PNG's: a byte no text has, and line ends that a transfer as text would change.
MAGIC: Final = b"\x89rrevents\r\n\x1a\n"
FORMAT: Final = 2
_OLDEST_FORMAT: Final = 1  # the same without `Channel.REQUESTS`
HEAD: Final = Struct("<III")
_UNSUMMED: Final = Struct("<II")
# Four times what any engine may send in one message.
MAX_RECORD_BYTES: Final = 64 << 20
MAX_SOURCES: Final = 1 << 16
# Unsigned, and far beyond any recording: 292 years.
MAX_NS: Final = 2**63 - 1

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_NS)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SOURCES)]


class Wire(IntEnum):
    """Which protocol a source speaks."""

    NATIVE = 0
    FOREIGN = 1  # vLLM's and SGLang's


class Channel(IntEnum):
    """Which way a message went, and over which socket of a source."""

    EVENTS = 0
    CONTROL = 1  # resends and snapshots
    REQUESTS = 2  # what was asked for them


class RecordedScope(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The public half of what keys are salted with; the secret is never recorded."""

    model: str = ""
    model_fingerprint: str = ""
    kv_dtype: str = ""
    lora: str = ""
    block_size: _Count = 0  # tokens; 0: not known
    fingerprint: str = ""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """One life of one worker's streams: where they come from and which epoch counts."""

    worker: str
    ranks: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
    wire: Wire
    epoch: bytes  # as `GetInfo` confirmed it; empty: the engine has none
    events: str  # ZeroMQ addresses
    control: str  # empty: none
    block_size: _Count = 0  # tokens, of a foreign engine, as it was stated; 0: its stores tell
    key: bytes = b""  # CURVE key of both addresses, as Z85; empty: in the clear

    @property
    def holders(self) -> tuple[Holder, ...]:
        """One for each rank."""
        return tuple(Holder(WorkerId(self.worker), rank) for rank in range(self.ranks))


class Header(msgspec.Struct, frozen=True, tag="H", array_like=True):
    """The first record. Its sources have the numbers 0, 1, ...; later ones go on counting."""

    format: int
    started_unix_ns: int
    by: str  # the program that wrote it, and its version
    scope: RecordedScope
    sources: Annotated[list[Source], msgspec.Meta(max_length=MAX_SOURCES)]


class Message(msgspec.Struct, frozen=True, tag="M", array_like=True):
    """One ZeroMQ message of a source, or to it: all its frames."""

    at_ns: _Nanoseconds  # since the recording began
    source: _Number
    channel: Channel
    frames: list[bytes]


class Joined(msgspec.Struct, frozen=True, tag="J", array_like=True):
    """A source was found, or an old one's next life; it has the next number."""

    at_ns: _Nanoseconds
    source: Source


class Left(msgspec.Struct, frozen=True, tag="L", array_like=True):
    """A source is not listened to any more."""

    at_ns: _Nanoseconds
    source: _Number


class End(msgspec.Struct, frozen=True, tag="E", array_like=True):
    """The recorder stopped of its own accord. Without this one it was killed."""

    at_ns: _Nanoseconds
    refused: _Count  # messages too big for a record


Record: TypeAlias = Message | Joined | Left | End

_HEADER = msgspec.msgpack.Decoder(Header)
_RECORD: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Message | Joined | Left | End)


def encode(record: Header | Record) -> bytes:
    """Head and body. Raises `LocalEventError` for what is beyond `MAX_RECORD_BYTES`."""
    body = _body(record)
    if len(body) > MAX_RECORD_BYTES:
        raise LocalEventError(f"a record of {len(body)} bytes")
    sums = len(body), zlib.crc32(body)
    return HEAD.pack(*sums, zlib.crc32(_UNSUMMED.pack(*sums))) + body


def body_len(head: bytes) -> int | None:
    """Bytes of the body that follows a head; None: the head is damaged."""
    length, body_sum, head_sum = HEAD.unpack(head)
    is_sound = zlib.crc32(_UNSUMMED.pack(length, body_sum)) == head_sum
    return length if is_sound and length <= MAX_RECORD_BYTES else None


def is_whole(head: bytes, body: bytes) -> bool:
    """Whether the body is the one that the head was written for."""
    return bool(HEAD.unpack(head)[1] == zlib.crc32(body))


def decode_header(body: bytes) -> Header:
    """Raises `RecordingError` for a form that this release does not read."""
    try:
        header = _HEADER.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecordingError("its first record is no header") from error
    if not _OLDEST_FORMAT <= header.format <= FORMAT:
        raise RecordingError(
            f"it has format {header.format} and this release reads {_OLDEST_FORMAT} to {FORMAT}: "
            f"use {header.by or 'the release that wrote it'}"
        )
    return header


def decode_record(body: bytes) -> Record:
    """Raises `RecordingError`: the sums are right, so it was written that way."""
    try:
        return _RECORD.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise RecordingError(f"a record is not of the form ({type(error).__name__})") from error


def _body(record: Header | Record) -> bytes:
    # Encoded by the other library than it is decoded by, so that each checks the other.
    packed: bytes = msgpack.packb(msgspec.to_builtins(record, builtin_types=(bytes,)))
    return packed
