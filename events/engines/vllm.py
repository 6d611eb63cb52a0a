"""Decodes the event messages of vLLM (every version) and SGLang into foreign records.

Both send `[topic, seq, payload]`; a payload is an array or a map, an event is a map with key
`type` or an array with its tag first. Unknown fields are ignored, one bad event does not cost its
batch, and any bytes end in records or one `RemoteEventError`. What they become in our events is
`adapter`'s, or, for plain batches, `flat`'s and `translate_kernels`'. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from radixroute.events.engines.flat import decode_flat
from radixroute.events.engines.foreign import (
    MAX_HASH_BYTES,
    EngineHash,
    ExtraKeys,
    ForeignBatch,
    ForeignCleared,
    ForeignEvent,
    ForeignRemoved,
    ForeignReplayEnd,
    ForeignStored,
)
from radixroute.events.errors import RemoteEventError
from radixroute.radix.ids import Tokens

# Token ids of a whole step travel in one message: 16 MiB are three million of them.
MAX_FOREIGN_PAYLOAD_BYTES: Final = 16 << 20
_END_SEQ: Final = b"\xff" * 8
_MASK: Final = 2**64 - 1
_INT: Final = {int}  # and no bool, which is one, too
_NO_EXTRA: Final = ExtraKeys()

# Positions in the array form, the tag being item 0; the map form has the same names.
_STORED_FIELDS: Final = (
    "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium",
    "lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window",
    "locality", "ownership", "session_id",
)  # fmt: skip
_REMOVED_FIELDS: Final = ("block_hashes", "medium", "group_idx", "locality", "ownership")

_Fields = Mapping[Any, Any]


def decode_live(frames: Sequence[bytes]) -> ForeignBatch:
    """A message of the PUB socket."""
    if len(frames) != 3:
        raise RemoteEventError(f"{len(frames)} frames where an engine sends 3")
    return _decode_batch(frames[1], frames[2])


def decode_replay(frames: Sequence[bytes]) -> ForeignBatch | ForeignReplayEnd:
    """A reply of vLLM's replay endpoint as a DEALER sees it, with or without a topic frame."""
    if not 3 <= len(frames) <= 4 or frames[0] != b"":
        raise RemoteEventError(f"{len(frames)} frames that are no replay")
    if frames[-2] == _END_SEQ:
        return ForeignReplayEnd()
    return _decode_batch(frames[-2], frames[-1])


def encode_replay_request(from_seq: int) -> list[bytes]:
    """Frames a DEALER sends to ask for every kept batch from `from_seq` on."""
    return [b"", from_seq.to_bytes(8, "big")]


def _decode_batch(seq: bytes, payload: bytes) -> ForeignBatch:
    if len(seq) != 8:
        raise RemoteEventError(f"seq frame of {len(seq)} bytes")
    if len(payload) <= MAX_FOREIGN_PAYLOAD_BYTES:
        number = int.from_bytes(seq, "big")
        fast = decode_flat(number, payload)
        if fast is not None:
            return fast
    return decode_unusual(seq, payload)


def decode_unusual(seq: bytes, payload: bytes) -> ForeignBatch:
    """Every form there is, field by field: LoRAs, salts, arrays, EAGLE's pairs, and errors."""
    ts, wire_events, rank = _batch_items(_decode(payload))
    events = [_event(wire) for wire in wire_events]
    good = tuple(event for event in events if event is not None)
    return ForeignBatch(
        seq=int.from_bytes(seq, "big"),
        events=good,
        rank=rank,
        ts=ts,
        skipped=len(events) - len(good),
    )


def _decode(payload: bytes) -> object:
    if len(payload) > MAX_FOREIGN_PAYLOAD_BYTES:
        raise RemoteEventError(f"payload of {len(payload)} bytes")
    try:
        return msgspec.msgpack.decode(payload)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise RemoteEventError(f"payload is not MessagePack ({type(error).__name__})") from error


def _batch_items(batch: object) -> tuple[float, list[object], int | None]:
    if isinstance(batch, dict):  # a short-lived vLLM main
        batch = [batch.get("ts"), batch.get("events"), batch.get("data_parallel_rank")]
    if not isinstance(batch, list) or len(batch) < 2:
        raise RemoteEventError("a batch is neither an array nor a map of the form")
    ts, events, rank = batch[0], batch[1], batch[2] if len(batch) > 2 else None
    if not _is_number(ts) or not isinstance(events, list):
        raise RemoteEventError("a batch without a time or events")
    if rank is not None and (not _is_int(rank) or rank < 0):
        raise RemoteEventError("a batch whose rank is no rank")
    return float(ts), events, rank


def _event(wire: object) -> ForeignEvent | None:
    """One event; None for a tag nobody knows and for a form that cannot be right."""
    tag, fields = _tagged(wire)
    try:
        if tag == "BlockStored":
            return _stored(fields)
        if tag == "BlockRemoved":
            return _removed(fields)
    except _BadField:
        return None
    return ForeignCleared() if tag == "AllBlocksCleared" else None


def _tagged(wire: object) -> tuple[object, _Fields]:
    if isinstance(wire, dict):
        return wire.get("type"), wire
    if not isinstance(wire, list) or not wire:
        return None, {}
    names = _STORED_FIELDS if wire[0] == "BlockStored" else _REMOVED_FIELDS
    return wire[0], dict(zip(names, wire[1:], strict=False))


def _stored(fields: _Fields) -> ForeignStored:
    lora_name, salt = fields.get("lora_name"), fields.get("cache_salt")
    if isinstance(lora_name, dict):
        # SGLang's arrays carry a map where vLLM's have the LoRA name.
        salt, lora_name = lora_name.get("cache_salt"), lora_name.get("lora_name")
    parent = fields.get("parent_block_hash")
    return ForeignStored(
        hashes=_hashes(fields.get("block_hashes")),
        parent=None if parent is None else _hash(parent),
        token_ids=_token_ids(fields.get("token_ids")),
        block_size=_count(fields.get("block_size")),
        medium=_text(fields.get("medium")),
        lora_id=_optional_count(fields.get("lora_id")),
        lora_name=_text(lora_name),
        cache_salt=_text(salt) or None,  # SGLang treats "" as no salt
        extra_keys=_extra_keys(fields.get("extra_keys")),
        group=_optional_count(fields.get("group_idx")),
        kind=_text(fields.get("kv_cache_spec_kind")),
        locality=_text(fields.get("locality")),
    )


def _removed(fields: _Fields) -> ForeignRemoved:
    return ForeignRemoved(
        hashes=_hashes(fields.get("block_hashes")),
        medium=_text(fields.get("medium")),
        group=_optional_count(fields.get("group_idx")),
        locality=_text(fields.get("locality")),
    )


class _BadField(Exception):
    """A field of an event has the wrong type; the event is skipped."""


def _hashes(value: object) -> tuple[EngineHash, ...]:
    if not isinstance(value, list):
        raise _BadField
    if set(map(type, value)) <= _INT:
        return tuple([EngineHash(item & _MASK) for item in value])
    return tuple(_hash(item) for item in value)


def _hash(value: object) -> EngineHash:
    """vLLM: unsigned, or a digest's bytes. SGLang: signed."""
    if isinstance(value, bytes) and 0 < len(value) <= MAX_HASH_BYTES:
        return EngineHash(int.from_bytes(value, "big"))
    if isinstance(value, int) and not isinstance(value, bool):
        return EngineHash(value & _MASK)
    raise _BadField


def _token_ids(value: object) -> Tokens:
    if not isinstance(value, list):
        raise _BadField
    if value and isinstance(value[0], list):  # SGLang EAGLE: pairs (token, next token)
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
            raise _BadField
        value = [pair[0] for pair in value]
    if not set(map(type, value)) <= _INT:
        raise _BadField
    try:
        return np.array(value, np.uint32)
    except OverflowError as error:  # below 0 or beyond 32 bits
        raise _BadField from error


def _extra_keys(value: object) -> tuple[ExtraKeys, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _BadField
    return tuple(_extra_keys_of_block(block) for block in value)


def _extra_keys_of_block(value: object) -> ExtraKeys:
    if value is None:
        return _NO_EXTRA
    if not isinstance(value, list):
        raise _BadField
    texts = tuple(item for item in value if isinstance(item, str))
    return ExtraKeys(texts, has_content=len(texts) < len(value))


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _BadField
    return value


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _BadField


def _optional_count(value: object) -> int | None:
    return None if value is None else _count(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_int(value)
