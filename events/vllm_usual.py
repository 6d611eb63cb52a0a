"""The second path for what vLLM usually sends: a batch array of event maps, with LoRAs and salts.

What is plain takes the first path, `flat`. This one too takes only what it wholly understands; None
leaves a payload to the decoder that knows every form. Both say the same of the same bytes, and a
fuzz test holds them together. Token ids go from bytes to an array without being Python numbers in
between: those were two thirds of the time.
"""

from functools import cache
from typing import Any, cast

import msgspec
import numpy as np

from radixroute.events.foreign import (
    EngineHash,
    ExtraKeys,
    ForeignBatch,
    ForeignCleared,
    ForeignEvent,
    ForeignRemoved,
    ForeignStored,
)
from radixroute.radix.ids import Tokens


class _Stored(msgspec.Struct, tag_field="type", tag="BlockStored"):
    block_hashes: list[int]
    token_ids: msgspec.Raw
    block_size: int
    parent_block_hash: int | None = None
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    cache_salt: str | None = None
    extra_keys: list[list[str] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    locality: str | None = None


class _Removed(msgspec.Struct, tag_field="type", tag="BlockRemoved"):
    block_hashes: list[int]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class _Cleared(msgspec.Struct, tag_field="type", tag="AllBlocksCleared"):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[_Stored | _Removed | _Cleared]
    rank: int | None = None


class _NotUsual(Exception):
    """The other decoder decides."""


_BATCH = msgspec.msgpack.Decoder(_Batch)
_NO_EXTRA = ExtraKeys()


def decode_usual(seq: int, payload: bytes) -> ForeignBatch | None:
    """None: not of the usual form, whatever it is."""
    try:
        wire = _BATCH.decode(payload)
        events = tuple(_event(event) for event in wire.events)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, _NotUsual):
        return None
    if wire.rank is not None and wire.rank < 0:
        return None
    return ForeignBatch(seq, events, wire.rank, wire.ts)


def _event(wire: _Stored | _Removed | _Cleared) -> ForeignEvent:
    if isinstance(wire, _Stored):
        return _stored(wire)
    if isinstance(wire, _Cleared):
        return ForeignCleared()
    return ForeignRemoved(
        _hashes(wire.block_hashes), wire.medium, _count(wire.group_idx), wire.locality
    )


def _stored(wire: _Stored) -> ForeignStored:
    parent = wire.parent_block_hash
    extra = wire.extra_keys or ()
    return ForeignStored(
        hashes=_hashes(wire.block_hashes),
        parent=None if parent is None else EngineHash(parent & _MASK),
        token_ids=_token_ids(wire.token_ids),
        block_size=_count(wire.block_size) or 0,
        medium=wire.medium,
        lora_id=_count(wire.lora_id),
        lora_name=wire.lora_name,
        cache_salt=wire.cache_salt or None,
        extra_keys=tuple(_NO_EXTRA if one is None else ExtraKeys(tuple(one)) for one in extra),
        group=_count(wire.group_idx),
        kind=wire.kv_cache_spec_kind,
        locality=wire.locality,
    )


_MASK = 2**64 - 1


def _hashes(values: list[int]) -> tuple[EngineHash, ...]:
    if values and min(values) < 0:  # SGLang's are signed
        return tuple(EngineHash(value & _MASK) for value in values)
    return tuple(cast(list[EngineHash], values))


def _count(value: int | None) -> int | None:
    if value is not None and value < 0:
        raise _NotUsual
    return value


def _token_ids(raw: msgspec.Raw) -> Tokens:
    data = np.frombuffer(raw, np.uint8)
    ids = np.empty(len(data), np.uint32)
    n = _kernel()(data, ids)
    if n < 0:
        raise _NotUsual
    return ids[:n].copy()


@cache
def _kernel() -> Any:
    from radixroute.events.foreign_kernels import read_ids  # here: numba takes 0.5 s to import

    return read_ids
