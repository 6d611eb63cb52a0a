"""Raw payloads of events, decoded and applied to an index a million blocks large.

Of our own in two shapes: one stored event of 32 blocks, the smallest there is, and eight of them,
as one engine step of a few sequences sends. And of vLLM's: one event of 32 blocks of 16 tokens; its
hashes go to a table of a million, its tokens become our keys. Nothing of a peer does this in
Python, so there is no peer's figure.
"""

import gc
import time
from collections.abc import Iterator
from statistics import median

import msgspec
import numpy as np

from bench.index.sides import EVENT_BLOCKS, Ours
from bench.rows import Row, alone
from radixroute.events.engines.adapter import EngineAdapter
from radixroute.events.engines.vllm import decode_live
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import decode_frames, encode_batch
from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksStored, EventBatch
from radixroute.radix.ids import Keys, Tier
from radixroute.radix.keys.scope import Scope

MILLION = 1 << 20
MEASURED = 1 << 18
BLOCK_TOKENS, VOCABULARY = 16, 128_000
EPOCH = make_epoch(1, bytes(8))


def rows(rounds: int) -> Iterator[Row]:
    """Blocks a second on one core."""
    for name, events, bar in (("decode.native", 8, 10e6), ("decode.native.1", 1, None)):
        yield alone(name, median(_rate(events) for _ in range(rounds)), "blocks/s", bar)
    yield alone("decode.vllm", median(_vllm_rate() for _ in range(rounds)), "blocks/s", 2e6)


def _rate(events: int) -> float:
    rng = np.random.default_rng(events)
    resident, old, new = (rng.integers(1, 2**64, MILLION, dtype=np.uint64) for _ in range(3))
    ours = Ours(1)
    holder = ours.holders[0]
    # A cache that is full: what comes takes the place of what went. Growth is measured elsewhere.
    ours.index.store(holder, None, resident, Tier.DEVICE)
    ours.index.store(holder, None, old, Tier.DEVICE)
    ours.index.remove(holder, old[::-1].copy(), Tier.DEVICE)
    payloads = [_frames(new[i : i + events * EVENT_BLOCKS]) for i in range(0, MILLION, events * 32)]
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    for frames in payloads:
        batch = decode_frames(frames)
        assert isinstance(batch, EventBatch)
        assert isinstance(batch.events, PackedEvents)
        ours.index.apply(holder, batch.events.words)
    taken = time.perf_counter() - started
    gc.enable()
    if ours.index.n_blocks(holder) != 2 * MILLION:
        raise SystemExit("not every block arrived")
    return MILLION / taken


def _frames(keys: Keys) -> list[bytes]:
    chains = [keys[i : i + EVENT_BLOCKS] for i in range(0, len(keys), EVENT_BLOCKS)]
    return encode_batch(EventBatch(EPOCH, 0, 0, tuple(BlocksStored(None, c) for c in chains), 1.0))


def _vllm_rate() -> float:
    rng = np.random.default_rng(1)
    resident, old, new = (_vllm_frames(rng, n) for n in (MILLION, MILLION, MEASURED))
    gone = list(_vllm_removals(old))
    ours, adapter = Ours(1), EngineAdapter(Scope("model", BLOCK_TOKENS))
    # As above: a cache that is full.
    for frames in (*resident, *old, *gone):
        _take(ours, adapter, frames)
    del resident, old, gone
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    for frames in new:
        _take(ours, adapter, frames)
    taken = time.perf_counter() - started
    gc.enable()
    if not ours.index.n_blocks(ours.holders[0]) == adapter.n_blocks == MILLION + MEASURED:
        raise SystemExit("not every block arrived")
    return MEASURED / taken


def _take(ours: Ours, adapter: EngineAdapter, frames: list[bytes]) -> None:
    events = adapter.translate_all(decode_live(frames).events)
    assert isinstance(events, PackedEvents)
    ours.index.apply(ours.holders[0], events.words)


def _vllm_frames(rng: np.random.Generator, n_blocks: int) -> list[list[bytes]]:
    """Prompts of 128 blocks, in events of 32, with every field that vLLM sends."""
    hashes = rng.integers(0, 2**64, n_blocks, dtype=np.uint64).tolist()
    messages = []
    for i in range(0, n_blocks, EVENT_BLOCKS):
        event = {
            "type": "BlockStored",
            "block_hashes": hashes[i : i + EVENT_BLOCKS],
            "parent_block_hash": hashes[i - 1] if i % 128 else None,
            "token_ids": rng.integers(0, VOCABULARY, EVENT_BLOCKS * BLOCK_TOKENS).tolist(),
            "block_size": BLOCK_TOKENS,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
            "extra_keys": [None] * EVENT_BLOCKS,
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        }
        messages.append([b"", bytes(8), msgspec.msgpack.encode([1.5, [event], 0])])
    return messages


def _vllm_removals(stored: list[list[bytes]]) -> Iterator[list[bytes]]:
    """Of all that was stored, from the ends of the prompts."""
    for frames in reversed(stored):
        _, (event,), _ = msgspec.msgpack.decode(frames[2])
        gone = {"type": "BlockRemoved", "medium": "GPU", "group_idx": 0}
        gone["block_hashes"] = event["block_hashes"][::-1]
        yield [b"", bytes(8), msgspec.msgpack.encode([1.5, [gone], 0])]
