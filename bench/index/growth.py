"""Memory, probes and speed of the index as it grows to 50 million blocks."""

import gc
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from bench.index.sides import Ours
from bench.rows import Row, alone
from radixroute.radix.ids import Keys, Tier

MILLION = 1_000_000
SIZES = (1, 10, 50)
EVENT_BLOCKS = 32
CURVE: list[dict[str, float]] = []  # what the benchmark shows as the growth curve


def rows() -> Iterator[Row]:
    yield from _memory()
    yield from _growth()


def _memory() -> Iterator[Row]:
    """Bytes a (worker, block) pair, the worst seen while it grows from one to two million pairs."""
    for name, workers, holders, bar in (
        ("memory.h1", 64, 1, 64),
        ("memory.h8", 64, 8, 16),
        ("memory.h1.w1024", 1024, 1, 80),
    ):
        # In a process of its own: resident memory is measured there, from outside of the index.
        command = [sys.executable, "-m", "bench.index.growth", str(workers), str(holders)]
        worst = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield alone(name, float(worst), "B", bar)


def _worst_bytes(workers: int, holders: int) -> float:
    ours = Ours(workers)
    index = ours.index
    chains = _chains(2 * MILLION // holders)
    gc.collect()
    before, worst, pairs = _resident(), 0.0, 0
    for number, keys in enumerate(chains):
        for one in range(holders):
            index.store(ours.holders[(number + one) % workers], None, keys, Tier.DEVICE)
        pairs += holders * len(keys)
        if pairs > MILLION and number % 500 == 0:
            worst = max(worst, (_resident() - before) / pairs)
    index_bytes = index.n_bytes / pairs
    return max(worst, index_bytes)


def _growth() -> Iterator[Row]:
    """One worker's chains of 32 blocks up to 50 million; at each size, store and remove there."""
    ours = Ours(64)
    index, holder = ours.index, ours.holders[0]
    keys = _keys(SIZES[-1] * MILLION + MILLION)
    done = 0
    pauses: list[float] = []
    for size in SIZES:
        started = time.perf_counter()
        lap_from = done
        while done < size * MILLION:
            one = time.perf_counter()
            index.store(holder, None, keys[done : done + EVENT_BLOCKS], Tier.DEVICE)
            pauses.append(time.perf_counter() - one)
            done += EVENT_BLOCKS
        grown = (done - lap_from) / (time.perf_counter() - started)
        sample = keys[:done:7][: 2 * MILLION].copy()
        np.random.default_rng(0).shuffle(sample)
        present, absent = index.mean_probes(sample), index.mean_probes(_keys(MILLION, seed=9))
        bytes_a_block = index.n_bytes / done  # before a million more come and go
        resident = _at_size(index, holder, keys[-MILLION:])
        worst = float(np.quantile(pauses, 0.999)) * 1e3
        CURVE.append(
            {"blocks": done, "growing_per_s": grown, "stored_per_s": resident, "present": present,
             "absent": absent, "p999_event_ms": worst, "worst_event_ms": max(pauses) * 1e3,
             "bytes_a_block": bytes_a_block}
        )  # fmt: skip
        yield alone(f"probes.{size}m", (present + absent) / 2, "buckets", 1.5)
        bar = {1: 10e6, 50: 6e6}.get(size)
        yield alone(f"stored.{size}m", resident, "blocks/s", bar)
    yield alone("pause.p999", float(np.quantile(pauses, 0.999)) * 1e3, "ms", 5.0)


def _at_size(index: object, holder: object, keys: Keys) -> float:
    """A million blocks more in events of 32, then away again; the better of three."""
    best = 0.0
    for _ in range(3):
        events = [keys[i : i + EVENT_BLOCKS] for i in range(0, len(keys), EVENT_BLOCKS)]
        started = time.perf_counter()
        for event in events:
            index.store(holder, None, event, Tier.DEVICE)  # type: ignore[attr-defined]
        best = max(best, len(keys) / (time.perf_counter() - started))
        for event in reversed(events):
            index.remove(holder, event[::-1].copy(), Tier.DEVICE)  # type: ignore[attr-defined]
    return best


def _chains(n: int) -> list[Keys]:
    keys = _keys(n)
    return [keys[i : i + EVENT_BLOCKS] for i in range(0, n, EVENT_BLOCKS)]


def _keys(n: int, seed: int = 0) -> Keys:
    return np.random.default_rng(seed).integers(1, 2**64, n, dtype=np.uint64)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    print(_worst_bytes(int(sys.argv[1]), int(sys.argv[2])))
