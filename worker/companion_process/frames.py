"""Frames between a companion process and whoever started it: records, and their bytes in the pipe.

A life is named by its incarnation, which nobody else has. The pipe is a socket pair between two
processes of one user, so settings may hold the cluster's secret. Pure but for `read`, which reads.
"""

import asyncio
from dataclasses import dataclass

import msgspec

from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.pipe import HEADER, MAX_MESSAGE_BYTES
from radixroute.worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is told of an engine that serves."""

    kind: str  # its dialect
    model: str
    block_size: int  # tokens
    kv_blocks_total: int  # 0: not told
    max_model_len: int  # tokens
    adapters: tuple[str, ...] = ()


class StartLife(msgspec.Struct, frozen=True, tag=True):
    """Join the engine at `url` and serve it."""

    life: int
    url: str
    worker: WorkerSettings
    companion: CompanionSettings


class StopLife(msgspec.Struct, frozen=True, tag=True):
    """End in order: what runs gets `drain_s` to end whole."""

    life: int
    drain_s: float


class DropLife(msgspec.Struct, frozen=True, tag=True):
    """End at once, whatever it was doing; nothing answers."""

    life: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Does the loop turn?"""


class Started(msgspec.Struct, frozen=True, tag=True):
    """The answer to `StartLife`: where it serves, or why it does not."""

    life: int
    host: str = ""
    port: int = 0
    facts: EngineFacts | None = None
    error: str | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A life that served ends, and why. `is_told`: it goes on and wants to be drained."""

    life: int
    reason: str
    is_told: bool = False


class Stopped(msgspec.Struct, frozen=True, tag=True):
    """The answer to `StopLife`."""

    life: int


class Pong(msgspec.Struct, frozen=True, tag=True):
    """It does."""


class Ending(msgspec.Struct, frozen=True, tag=True):
    """A signal told this process to end: no new life will start in it, and each is told so."""


Order = StartLife | StopLife | DropLife | Ping
Report = Started | Failed | Stopped | Pong | Ending

_orders = msgspec.msgpack.Decoder(Order)
_reports = msgspec.msgpack.Decoder(Report)
_encoder = msgspec.msgpack.Encoder()


def framed(message: Order | Report) -> bytes:
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


async def read_order(reader: asyncio.StreamReader) -> Order | None:
    """The next one; None once the other end is gone. Raises `MalformedMessage`."""
    body = await _read(reader)
    try:
        return None if body is None else _orders.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"not an order: {error}") from error


async def read_report(reader: asyncio.StreamReader) -> Report | None:
    """The same at the other end."""
    body = await _read(reader)
    try:
        return None if body is None else _reports.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"not a report: {error}") from error


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    try:
        (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        if size > MAX_MESSAGE_BYTES:
            raise MalformedMessage(f"a message announces {size} bytes")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
