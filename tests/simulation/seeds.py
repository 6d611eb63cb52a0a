"""Many seeds, one after the other, until one breaks an invariant."""

import contextlib
import ctypes
import gc
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.drawing.by_seed import make_plan
from tests.simulation.shrink import Failure, failure_of
from tests.simulation.world import run

# An index takes 10 MB of zeros and touches few of them. Left alone, glibc learns from the first
# that is freed to take the next from its heap, and writes every zero.
_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES = -3, 1 << 20


@dataclass
class Tally:
    """What some seeds came to."""

    seeds: int = 0
    events: int = 0
    known: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None


def run_seeds(seeds: Iterable[int], *, progress: bool = False) -> Tally:
    """Stops at the first failure."""
    tally = Tally()
    _map_large_arrays()
    gc.disable()
    gc.freeze()  # what is there stays there: a collection looks at worlds alone
    try:
        for seed in seeds:
            tally.seeds += 1
            _run(seed, tally)
            if tally.failure is not None:
                break
            gc.collect()  # a world is full of cycles, and the next one wants its memory
            if progress and tally.seeds % 100 == 0:
                print(f"{tally.seeds} seeds", file=sys.stderr)
    finally:
        gc.unfreeze()
        gc.enable()
    return tally


def _map_large_arrays() -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)


def _run(seed: int, tally: Tally) -> None:
    plan = make_plan(seed)
    try:
        outcome = run(plan)
    except Exception:
        tally.failure = failure_of(plan)
        if tally.failure is None:
            raise
        return
    tally.events += outcome.n_events
    tally.known += outcome.known
    tally.happened += outcome.tally
    tally.counters += Counter(outcome.counters)
