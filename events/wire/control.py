"""The control channel of a native stream: who asks for resends and snapshots, and what comes back.

A subscriber's DEALER sends `rr1.replay` with `[from_seq, to_seq]` (inclusive) or `rr1.snapshot`;
the publisher's ROUTER answers with batches in their live form and then `rr1.end` with
`[epoch, from_seq]`, or with `rr1.snap` parts `[epoch, rank, seq|nil, index, count, runs]`, each run
`[parent|nil, keys, tier]`. Parts need no request number: two snapshots of one seq are the same.
Ranks may share both addresses, each with its own seq: then a request names none of them, all of
them answer, and a resend ends once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgpack
import msgspec

from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.native import (
    TOPIC_BATCH,
    EpochBytes,
    RankNumber,
    TierNumber,
    decode_frames,
    decode_payload,
    pack_keys,
    require_seq,
    unpack_run,
)
from radixroute.events.wire.records import Epoch, EventBatch, Heartbeat, SnapshotPart
from radixroute.radix.ids import Holder

TOPIC_RESEND = b"rr1.replay"  # the wire's older word for it
TOPIC_SNAPSHOT = b"rr1.snapshot"
TOPIC_PART = b"rr1.snap"
TOPIC_END = b"rr1.end"

# 2**16 parts of 8,192 blocks are half a billion: above any cache, far below what exhausts memory.
MAX_PARTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where one stream is published, as ZeroMQ addresses."""

    events: str  # PUB: batches and heartbeats
    control: str  # ROUTER: resend and snapshot
    key: bytes = b""  # CURVE key of both, as Z85; empty: in the clear


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """Send batches `from_seq` to `to_seq` again, both included."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Send everything resident."""


@dataclass(frozen=True, slots=True)
class ResendDone:
    """The resend that began at `from_seq` has sent all it had: some of it may be missing."""

    epoch: Epoch
    from_seq: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes from this holder were not of the protocol."""

    reason: str


StreamItem: TypeAlias = EventBatch | Heartbeat | SnapshotPart | ResendDone | Malformed


class Delivery(msgspec.Struct, frozen=True):
    """One decoded item and the holder whose endpoint it came from, whatever the item claims."""

    holder: Holder
    item: StreamItem
    heard_ns: int | None = None  # monotonic: when it came, where it waited; None: just now


class _Resend(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    from_seq: int
    to_seq: int


class _End(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    epoch: EpochBytes
    from_seq: int


class _Run(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    parent: int | None
    keys: bytes
    tier: TierNumber


class _Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    epoch: EpochBytes
    rank: RankNumber
    seq: int | None
    index: Annotated[int, msgspec.Meta(ge=0)]
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    runs: list[_Run]


_RESEND = msgspec.msgpack.Decoder(_Resend)
_END = msgspec.msgpack.Decoder(_End)
_PART = msgspec.msgpack.Decoder(_Part)


def encode_request(request: ResendRequest | SnapshotRequest) -> list[bytes]:
    """Frames a DEALER sends."""
    if isinstance(request, SnapshotRequest):
        return [TOPIC_SNAPSHOT]
    return [TOPIC_RESEND, msgpack.packb([request.from_seq, request.to_seq])]


def decode_request(frames: Sequence[bytes]) -> ResendRequest | SnapshotRequest:
    """What a ROUTER received after the peer's identity."""
    if len(frames) == 1 and frames[0] == TOPIC_SNAPSHOT:
        return SnapshotRequest()
    if len(frames) == 2 and frames[0] == TOPIC_RESEND:
        wire = decode_payload(_RESEND, frames[1])
        return ResendRequest(require_seq(wire.from_seq), require_seq(wire.to_seq))
    raise RemoteEventError(f"{len(frames)} frames that are no request")


def encode_resend_done(done: ResendDone) -> list[bytes]:
    """Frames that end a resend."""
    return [TOPIC_END, msgpack.packb([done.epoch, done.from_seq])]


def encode_part(part: SnapshotPart) -> list[bytes]:
    """Frames of one snapshot part."""
    runs = [[run.parent, pack_keys(run.keys), int(run.tier)] for run in part.runs]
    wire = [part.epoch, part.rank, part.seq, part.index, part.count, runs]
    return [TOPIC_PART, msgpack.packb(wire)]


def decode_reply(frames: Sequence[bytes]) -> EventBatch | SnapshotPart | ResendDone:
    """What a DEALER received. Raises `RemoteEventError` for anything else."""
    if len(frames) == 3 and frames[0] == TOPIC_BATCH:
        batch = decode_frames(frames)
        if isinstance(batch, EventBatch):
            return batch
    if len(frames) == 2 and frames[0] == TOPIC_END:
        end = decode_payload(_END, frames[1])
        return ResendDone(Epoch(end.epoch), require_seq(end.from_seq))
    if len(frames) == 2 and frames[0] == TOPIC_PART:
        return _decode_part(frames[1])
    raise RemoteEventError(f"{len(frames)} frames that are no reply")


def _decode_part(payload: bytes) -> SnapshotPart:
    wire = decode_payload(_PART, payload)
    if wire.index >= wire.count:
        raise RemoteEventError("a snapshot part beyond the last")
    return SnapshotPart(
        epoch=Epoch(wire.epoch),
        rank=wire.rank,
        seq=None if wire.seq is None else require_seq(wire.seq),
        index=wire.index,
        count=wire.count,
        runs=tuple(unpack_run(run.parent, run.keys, run.tier) for run in wire.runs),
    )
