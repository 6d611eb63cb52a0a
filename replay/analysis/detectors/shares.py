"""Shares: workers that got too little of the work, that are thought wrong of, whose caches stay
empty. Pure.

All workers have the same share; one that is slower may get less. One got too little if that holds
of requests, of computed tokens, and of those requests of which nobody had cached more than a
little, as only those could have gone anywhere.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.analysis.detectors.occupancy import Occupancy
from radixroute.replay.arrays import Floats
from radixroute.replay.findings import Finding, named
from radixroute.replay.results import RunResult

LEAST_SHARE = 0.5
# Times that a slower worker's prompts take of the others'. Whoever has idle ones beside it rightly
# leaves it out.
_SLOWER = 1.2
# Requests that each worker should have got, below which chance explains what it did.
_ENOUGH = 24.0
# Times that a speed may be wrong: more than what batches and company do to a prompt's time.
MOST_WRONG = 1.5
_LATE = 0.25  # of the run: whose prompts show what a worker is now
LEAST_FILL = 0.5  # of a cache's blocks
# Evictions of a worker / its blocks: a cache that was turned over so far is really full.
_TURNED_OVER = 0.5


def starved(seen: Occupancy, run: RunResult, is_free: NDArray[np.bool_]) -> Finding | None:
    """`is_free`: of each request, whether nobody held much of its prompt; shape (answered,)."""
    if min(len(seen), int(is_free.sum())) < _ENOUGH * seen.n_workers:
        return None
    slowness = seen.slowness()
    short = np.zeros(seen.n_workers, np.bool_)
    fair = np.zeros(seen.n_workers)
    for worker in range(seen.n_workers):
        mine = np.flatnonzero(seen.worker == worker)
        # Who came late to the fleet had no share before.
        there = slice(mine[0] if len(mine) else 0, None)
        fair[worker] = (len(seen) - (mine[0] if len(mine) else 0)) / seen.n_workers
        is_free_then, of = is_free[there], seen.worker[there] == worker
        enough = is_free_then.sum() >= _ENOUGH * seen.n_workers
        short[worker] = (
            enough
            and _is_short(of, np.ones(len(of)), seen.n_workers)
            and _is_short(of, seen.computed_tokens[there], seen.n_workers)
            and _is_short(of[is_free_then], np.ones(int(is_free_then.sum())), seen.n_workers)
            and (slowness is None or slowness[worker] < _SLOWER)
            and not _is_gone(run, worker)
        )
    if not short.any():
        return None
    workers = tuple(np.flatnonzero(short).tolist())
    got = np.bincount(seen.worker, minlength=seen.n_workers)
    worst = workers[int((got[short] / fair[short]).argmin())]
    sentence = (
        f"{named(workers)} got less than half of a fair share, {got[worst]:,} requests at the least"
        f" where {fair[worst]:,.0f} would be fair, and no prompt showed them to be slower"
    )
    return Finding("starved", sentence, float(got[worst] / fair[worst]), workers)


def _is_short(is_its: NDArray[np.bool_], amounts: Floats | Numbers, n_workers: int) -> bool:
    """Whether one worker has less than half of its share of these amounts."""
    return bool(amounts[is_its].sum() < LEAST_SHARE * amounts.sum() / n_workers)


def _is_gone(run: RunResult, worker: int) -> bool:
    """It is not in the fleet at the end: nothing is thought of its speed."""
    return run.learned_ms is not None and bool(np.isnan(run.learned_ms[worker]))


def wrong_speed(seen: Occupancy, run: RunResult) -> Finding | None:
    """What the router thinks at the end that a prompt takes, beside what prompts took: in the whole
    run and of late, since a worker may have been slow and be well again."""
    first, last = int(seen.decided_ns[0]), int(seen.decided_ns[-1])
    whole = seen.slowness(lean=1.0)
    late = seen.slowness(since_ns=round(last - _LATE * (last - first)))
    if run.learned_ms is None or whole is None or late is None:
        return None
    thought = run.learned_ms / np.nanmedian(run.learned_ms)
    shown = np.clip(thought, np.minimum(whole, late), np.maximum(whole, late))
    ratio = np.where(np.isnan(thought), 1.0, thought / shown)  # who is gone is not judged
    off = np.maximum(ratio, 1.0 / ratio)
    if off.max() < MOST_WRONG:
        return None
    workers = tuple(np.flatnonzero(off >= MOST_WRONG).tolist())
    worst = int(off.argmax())
    way = "slower" if ratio[worst] > 1.0 else "faster"
    sentence = (
        f"the router thinks {named(workers)} to be {off[worst]:.1f} times {way} beside the others"
        " than any prompt there showed"
    )
    return Finding("wrong_speed", sentence, float(off[worst]), workers)


def uneven_caches(run: RunResult) -> Finding | None:
    caches = run.caches
    if caches is None or caches.held is None or caches.evicted is None:
        return None
    fill, turned = caches.held / caches.total, caches.evicted / caches.total
    empty = (fill < LEAST_FILL) & (caches.evicted == 0)
    full = turned >= _TURNED_OVER
    if not empty.any() or not full.any():
        return None
    workers = tuple(np.flatnonzero(empty).tolist())
    sentence = (
        f"the cache of {named(workers)} was at most {fill[empty].max():.0%} full at the end, while"
        f" {named(tuple(np.flatnonzero(full).tolist()))} evicted {turned[full].mean():.1f} times"
        " what they hold"
    )
    return Finding("uneven_caches", sentence, float(1.0 - fill[empty].mean()), workers)
