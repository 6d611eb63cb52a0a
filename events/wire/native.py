"""The native wire form: event batches and heartbeats <-> records.

Frames of a batch: `rr1`, seq (u64 big endian), MessagePack `[ts, events, rank, epoch]` with events
`["S", parent|nil, keys, tier]`, `["R", keys, tier]`, `["C"]`; of a heartbeat: `rr1.hb`,
`[epoch, last_seq|nil, n_copies, digest, load, rank]`. `keys` is a bin of packed little-endian u64.
No token ids: events would be prompts in the clear. Pure; called by publisher and subscriber.
msgpack encodes, msgspec decodes, so that each checks the other in the tests.
"""

import math
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, TypeVar

import msgpack
import msgspec
import numpy as np

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire.epoch import EPOCH_BYTES
from radixroute.events.wire.packed import Packer
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Epoch,
    Event,
    EventBatch,
    Heartbeat,
    LoadReport,
    SessionLoad,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Keys, Tier

TOPIC_BATCH = b"rr1"
TOPIC_HEARTBEAT = b"rr1.hb"

# One message: a step of 100,000 blocks is 0.8 MB, and ZeroMQ drops a peer that sends more.
MAX_PAYLOAD_BYTES = 1 << 20
# A step has a few events a sequence; 64 Ki is far above any scheduler's max_num_seqs.
MAX_EVENTS = 1 << 16
MAX_RANK = 1 << 16
MAX_SESSIONS = 1 << 12
MAX_ROUTER_ID_LEN = 128
MAX_DIRECT = 1 << 12
MAX_REQUEST_ID_LEN = 256
# 2**64 - 1 never names a batch: foreign replies use it as an end mark.
MAX_SEQ = 2**64 - 2

_T = TypeVar("_T")
_Count = Annotated[int, msgspec.Meta(ge=0)]
TierNumber = Annotated[int, msgspec.Meta(ge=0, le=int(max(Tier)))]
RankNumber = Annotated[int, msgspec.Meta(ge=0, le=MAX_RANK)]
EpochBytes = Annotated[bytes, msgspec.Meta(min_length=EPOCH_BYTES, max_length=EPOCH_BYTES)]
_RouterId = Annotated[str, msgspec.Meta(max_length=MAX_ROUTER_ID_LEN)]
_RequestId = Annotated[str, msgspec.Meta(max_length=MAX_REQUEST_ID_LEN)]


class _Stored(msgspec.Struct, tag="S", array_like=True, forbid_unknown_fields=True):
    parent: int | None
    keys: bytes
    tier: TierNumber


class _Removed(msgspec.Struct, tag="R", array_like=True, forbid_unknown_fields=True):
    keys: bytes
    tier: TierNumber


class _Cleared(msgspec.Struct, tag="C", array_like=True, forbid_unknown_fields=True):
    pass


class _Batch(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ts: float
    events: Annotated[list[_Stored | _Removed | _Cleared], msgspec.Meta(max_length=MAX_EVENTS)]
    rank: RankNumber
    epoch: EpochBytes


class _Session(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    router_id: _RouterId
    acknowledged_dispatch: _Count
    in_flight: _Count
    queued_tokens: _Count
    active_blocks: _Count


class _Load(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    step_age_ms: float
    kv_blocks_total: _Count
    kv_blocks_used: _Count
    sessions: Annotated[list[_Session], msgspec.Meta(max_length=MAX_SESSIONS)]
    # Left out by workers without direct clients, and by older ones.
    direct: Annotated[list[_RequestId], msgspec.Meta(max_length=MAX_DIRECT)] = []
    direct_ended: Annotated[list[_RequestId], msgspec.Meta(max_length=MAX_DIRECT)] = []


class _Heartbeat(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    epoch: EpochBytes
    last_seq: int | None
    n_copies: _Count
    digest: int
    load: _Load
    rank: RankNumber


_BATCH = msgspec.msgpack.Decoder(_Batch)
_HEARTBEAT = msgspec.msgpack.Decoder(_Heartbeat)


def encode_batch(batch: EventBatch) -> list[bytes]:
    """The three frames of a batch."""
    if not 0 <= batch.seq <= MAX_SEQ:
        raise LocalEventError(f"seq {batch.seq} is out of range")
    payload = msgpack.packb(
        [batch.ts, [_event_to_wire(event) for event in batch.events], batch.rank, batch.epoch]
    )
    return [TOPIC_BATCH, batch.seq.to_bytes(8, "big"), payload]


def encode_heartbeat(beat: Heartbeat) -> list[bytes]:
    """The two frames of a heartbeat."""
    load = beat.load
    sessions = [
        [s.router_id, s.acknowledged_dispatch, s.in_flight, s.queued_tokens, s.active_blocks]
        for s in load.sessions[:MAX_SESSIONS]
    ]
    wire_load: list[object] = [
        float(load.step_age_ms), load.kv_blocks_total, load.kv_blocks_used, sessions
    ]  # fmt: skip
    if load.direct or load.direct_ended:
        wire_load += [list(ids[:MAX_DIRECT]) for ids in (load.direct, load.direct_ended)]
    payload = msgpack.packb([beat.epoch, beat.last_seq, *beat.account, wire_load, beat.rank])
    return [TOPIC_HEARTBEAT, payload]


def decode_frames(frames: Sequence[bytes]) -> EventBatch | Heartbeat:
    """What a SUB socket received. Raises `RemoteEventError` for anything else."""
    if len(frames) == 3 and frames[0] == TOPIC_BATCH:
        return _decode_batch(frames[1], frames[2])
    if len(frames) == 2 and frames[0] == TOPIC_HEARTBEAT:
        return _decode_heartbeat(frames[1])
    raise RemoteEventError(f"{len(frames)} frames with an unknown topic")


def decode_payload(decoder: "msgspec.msgpack.Decoder[_T]", payload: bytes) -> _T:
    """Typed decode whose only error is ours: msgspec lets other exceptions through."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RemoteEventError(f"payload of {len(payload)} bytes")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise RemoteEventError(f"payload is not of the form ({type(error).__name__})") from error


def pack_keys(keys: Keys) -> bytes:
    """Packed little-endian u64."""
    return np.ascontiguousarray(keys, dtype="<u8").tobytes()


def unpack_run(parent: int | None, keys: bytes, tier: int) -> BlocksStored:
    """A stored run. One that repeats a key is the index's to notice: it has two parents there."""
    unpacked = _unpack_keys(keys)
    key = None if parent is None else BlockKey(require_u64(parent, "parent"))
    if key == 0:
        raise RemoteEventError("key 0 names no block")
    return BlocksStored(parent=key, keys=unpacked, tier=Tier(tier))


def require_u64(value: int, name: str) -> int:
    """msgspec bounds stop at i64, so unsigned values are checked here."""
    if not 0 <= value < 2**64:
        raise RemoteEventError(f"{name} is not an unsigned 64-bit number")
    return value


def require_seq(value: int) -> int:
    """A number that can name a batch."""
    if not 0 <= value <= MAX_SEQ:
        raise RemoteEventError("seq is out of range")
    return value


class _Packers(threading.local):
    """One for each thread: a packer works in memory of its own."""

    @cached_property
    def mine(self) -> Packer:
        return Packer()


_PACKERS = _Packers()


def _decode_batch(seq: bytes, payload: bytes) -> EventBatch:
    if len(seq) != 8:
        raise RemoteEventError(f"seq frame of {len(seq)} bytes")
    packed = _PACKERS.mine.pack(payload) if len(payload) <= MAX_PAYLOAD_BYTES else None
    if packed is None:
        return decode_slowly(seq, payload)
    ts, rank, epoch, events = packed
    return EventBatch(Epoch(epoch), rank, require_seq(int.from_bytes(seq, "big")), events, ts)


def decode_slowly(seq: bytes, payload: bytes) -> EventBatch:
    """Whatever the packer did not take: unusual, or wrong in a way that can be named."""
    wire = decode_payload(_BATCH, payload)
    return EventBatch(
        epoch=Epoch(wire.epoch),
        rank=wire.rank,
        seq=require_seq(int.from_bytes(seq, "big")),
        events=tuple(_event_from_wire(event) for event in wire.events),
        ts=_require_finite(wire.ts),
    )


def _decode_heartbeat(payload: bytes) -> Heartbeat:
    wire = decode_payload(_HEARTBEAT, payload)
    load = LoadReport(
        step_age_ms=_require_finite(wire.load.step_age_ms),
        kv_blocks_total=wire.load.kv_blocks_total,
        kv_blocks_used=wire.load.kv_blocks_used,
        sessions=tuple(
            SessionLoad(
                router_id=s.router_id,
                acknowledged_dispatch=s.acknowledged_dispatch,
                in_flight=s.in_flight,
                queued_tokens=s.queued_tokens,
                active_blocks=s.active_blocks,
            )
            for s in wire.load.sessions
        ),
        direct=tuple(wire.load.direct),
        direct_ended=tuple(wire.load.direct_ended),
    )
    return Heartbeat(
        epoch=Epoch(wire.epoch),
        rank=wire.rank,
        last_seq=None if wire.last_seq is None else require_seq(wire.last_seq),
        account=Account(wire.n_copies, require_u64(wire.digest, "digest")),
        load=load,
    )


def _event_to_wire(event: Event) -> list[object]:
    match event:
        case BlocksStored(parent, keys, tier):
            return ["S", parent, pack_keys(keys), int(tier)]
        case BlocksRemoved(keys, tier):
            return ["R", pack_keys(keys), int(tier)]
        case CacheCleared():
            return ["C"]


def _event_from_wire(event: _Stored | _Removed | _Cleared) -> Event:
    if isinstance(event, _Stored):
        return unpack_run(event.parent, event.keys, event.tier)
    if isinstance(event, _Removed):
        return BlocksRemoved(keys=_unpack_keys(event.keys), tier=Tier(event.tier))
    return CacheCleared()


def _unpack_keys(packed: bytes) -> Keys:
    if len(packed) % 8:
        raise RemoteEventError(f"keys of {len(packed)} bytes")
    keys = np.frombuffer(packed, dtype="<u8").astype(np.uint64)
    if not keys.all():
        raise RemoteEventError("key 0 names no block")
    return keys


def _require_finite(value: float) -> float:
    if not math.isfinite(value):
        raise RemoteEventError("a time is not finite")
    return value
