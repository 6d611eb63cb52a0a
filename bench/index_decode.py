"""Raw payloads of our own events, decoded and applied to an index a million blocks large.

Two shapes: one stored event of 32 blocks, the smallest there is, and eight of them, as one engine
step of a few sequences sends. Nothing of a peer does this in Python, so there is no peer's figure.
"""

import gc
import time
from collections.abc import Iterator
from statistics import median

import numpy as np

from bench.index_rows import Row, alone
from bench.index_sides import EVENT_BLOCKS, Ours
from radixroute.events.epoch import make_epoch
from radixroute.events.native import decode_frames, encode_batch
from radixroute.events.packed import PackedEvents
from radixroute.events.records import BlocksStored, EventBatch
from radixroute.radix.ids import Keys, Tier

MILLION = 1 << 20
EPOCH = make_epoch(1, bytes(8))


def rows(rounds: int) -> Iterator[Row]:
    """Blocks a second on one core."""
    for name, events, bar in (("decode.native", 8, 10e6), ("decode.native.1", 1, None)):
        yield alone(name, median(_rate(events) for _ in range(rounds)), "blocks/s", bar)


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
