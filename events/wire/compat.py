"""The compat wire form: our events as the newest vLLM sends its own, for any other router to read.

Frames `kv-events`, seq (u64 big endian), MessagePack `[ts, events, rank]`; an event is a map with
key `type`. The same fields in the same order as vLLM 0.32 (tests/data), one removal a block as
there, nothing added: block keys stand where its hashes do. Token ids and salts, so prompts and
secrets, in the clear: off unless asked for. Pure; called by `compat_publisher`; `vllm` reads it
back in the tests, and engines' adapter the salts (`scope_of`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import Tier
from radixroute.radix.keys.scope import UNSCOPED, RequestScope

# The name in vLLM's own examples: who subscribes to everything receives it as well.
TOPIC: Final = b"kv-events"
_END_SEQ: Final = b"\xff" * 8
# One group of layers, each of which sees the whole prefix: all that our engine runs.
_GROUP: Final = 0
_KIND: Final = "full_attention"
# Before the one salt that stands for a tenant and a salt: no client's salt begins so by accident.
_WITH_TENANT: Final = "\x1f"
_MEDIUM_BY_TIER: Final = {Tier.DEVICE: "GPU", Tier.HOST: "CPU", Tier.DISK: "STORAGE"}

_Map = dict[str, Any]


def encode_compat(
    seq: int, events: Sequence[Event], *, ts: float, rank: int, block_size: int
) -> tuple[bytes, bytes, bytes]:
    """The three frames of one step's events; `ts` is Unix seconds."""
    maps = [one for event in events for one in _maps(event, block_size)]
    return TOPIC, seq.to_bytes(8, "big"), msgpack.packb([ts, maps, rank])


def decode_replay_request(frames: Sequence[bytes]) -> int:
    """The first seq wanted: what a REQ sends behind its delimiter, or a DEALER in its place."""
    if len(frames) != 2 or frames[0] != b"" or len(frames[1]) != 8:
        raise RemoteEventError("not a request for a replay")
    return int.from_bytes(frames[1], "big")


def encode_replay_reply(frames: Sequence[bytes]) -> tuple[bytes, ...]:
    """A batch that was sent, sent again; with the topic, as vLLM does since 0.26."""
    return (b"", *frames)


def encode_replay_end() -> tuple[bytes, ...]:
    """Follows the last batch of a replay."""
    return b"", b"", _END_SEQ, b""


def salt_of(scope: RequestScope) -> str:
    """vLLM knows no tenants: both in one salt, a different one for each pair."""
    if not scope.tenant and not scope.salt.startswith(_WITH_TENANT):
        return scope.salt
    return f"{_WITH_TENANT}{len(scope.tenant)}:{scope.tenant}{scope.salt}"


def scope_of(lora: str, salt: str) -> RequestScope:
    """Of a name and a salt as events have them: the other way of `salt_of`."""
    if not (lora or salt):
        return UNSCOPED
    n, colon, rest = salt.removeprefix(_WITH_TENANT).partition(":")
    is_plain = not salt.startswith(_WITH_TENANT) or not colon
    if is_plain or not (n.isascii() and n.isdecimal() and len(n) < 4 and int(n) <= len(rest)):
        return RequestScope(lora=lora, salt=salt)
    return RequestScope(lora=lora, salt=rest[int(n) :], tenant=rest[: int(n)])


def _maps(event: Event, block_size: int) -> Iterator[_Map]:
    match event:
        case BlocksStored():
            yield _stored(event, block_size)
        case BlocksRemoved(keys, tier):
            medium = _MEDIUM_BY_TIER[tier]
            for key in keys.tolist():
                yield _removed(key, medium)
        case CacheCleared():
            yield {"type": "AllBlocksCleared"}


def _stored(event: BlocksStored, block_size: int) -> _Map:
    if event.tokens is None or len(event.tokens) != len(event.keys) * block_size:
        raise LocalEventError("a stored event without the tokens of its blocks")
    return {
        "type": "BlockStored",
        "block_hashes": event.keys.tolist(),
        "parent_block_hash": event.parent,
        "token_ids": event.tokens.tolist(),
        "block_size": block_size,
        "lora_id": None,
        "medium": _MEDIUM_BY_TIER[event.tier],
        "lora_name": event.scope.lora or None,
        "extra_keys": _extra_keys(event),
        "group_idx": _GROUP,
        "kv_cache_spec_kind": _KIND,
    }


def _extra_keys(event: BlocksStored) -> list[list[str] | None]:
    """What a block's hash holds beside its tokens: the adapter; in a prompt's first, the salt."""
    lora, salt = event.scope.lora, salt_of(event.scope)
    rest = [lora] if lora else None
    first = [*(rest or ()), salt] if salt and event.parent is None else rest
    return [first, *[rest] * (len(event.keys) - 1)]


def _removed(key: int, medium: str) -> _Map:
    return {
        "type": "BlockRemoved",
        "block_hashes": [key],
        "medium": medium,
        "group_idx": _GROUP,
    }
