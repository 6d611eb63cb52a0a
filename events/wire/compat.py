"""The compat wire form: our events as the newest vLLM sends its own, for any other router to read.

Frames `kv-events`, seq (u64 big endian), MessagePack `[ts, events, rank]`; an event is a map with
key `type`. The same fields in the same order as vLLM 0.32 (tests/data), one removal a block as
there, nothing added: block keys stand where its hashes do. Token ids, so prompts, in the clear:
off unless asked for. Pure; called by `compat_publisher`; `vllm` reads it back in the tests.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import Tier

# The name in vLLM's own examples: who subscribes to everything receives it as well.
TOPIC: Final = b"kv-events"
_END_SEQ: Final = b"\xff" * 8
# One group of layers, each of which sees the whole prefix: all that our engine runs.
_GROUP: Final = 0
_KIND: Final = "full_attention"
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
        "lora_name": None,
        "extra_keys": [None] * len(event.keys),
        "group_idx": _GROUP,
        "kv_cache_spec_kind": _KIND,
    }


def _removed(key: int, medium: str) -> _Map:
    return {
        "type": "BlockRemoved",
        "block_hashes": [key],
        "medium": medium,
        "group_idx": _GROUP,
    }
