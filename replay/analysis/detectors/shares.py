"""Shares: workers that got too little of the work, that are thought wrong of, whose caches stay
empty. Pure.

All workers have the same share; one that is slower may get less. One got too little if that holds
of requests, of computed tokens, and of those requests of which nobody had cached more than a
little, as only those could have gone anywhere.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.analysis.detectors.finding import Finding, named
from radixroute.replay.analysis.detectors.occupancy import Occupancy
from radixroute.replay.arrays import Floats
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


def starved(seen: Occupancy, is_free: NDArray[np.bool_]) -> Finding | None:
    """`is_free`: of each request, whether nobody held much of its prompt; shape (answered,)."""
    if min(len(seen), int(is_free.sum())) < _ENOUGH * seen.n_workers:
        return None
    ones, slowness = np.ones(len(seen)), seen.slowness()
    short = _is_short(seen.worker, ones, seen.n_workers)
    short &= _is_short(seen.worker, seen.computed_tokens, seen.n_workers)
    short &= _is_short(seen.worker[is_free], ones[is_free], seen.n_workers)
    if slowness is not None:
        short &= slowness < _SLOWER
    if not short.any():
        return None
    workers = tuple(np.flatnonzero(short).tolist())
    least = int(np.bincount(seen.worker, minlength=seen.n_workers)[short].min())
    fair = len(seen) / seen.n_workers
    sentence = (
        f"{named(workers)} got less than half of a fair share, {least:,} requests at the least"
        f" where {fair:,.0f} would be fair, and no prompt showed them to be slower"
    )
    return Finding("starved", sentence, least / fair, workers)


def _is_short(worker: Numbers, amounts: Floats | Numbers, n_workers: int) -> NDArray[np.bool_]:
    got = np.bincount(worker, amounts, n_workers)
    return np.asarray(got < LEAST_SHARE * got.mean(), np.bool_)


def wrong_speed(seen: Occupancy, run: RunResult) -> Finding | None:
    """What the router thinks at the end that a prompt takes, beside what prompts took: in the whole
    run and of late, since a worker may have been slow and be well again."""
    first, last = int(seen.decided_ns[0]), int(seen.decided_ns[-1])
    whole = seen.slowness(lean=1.0)
    late = seen.slowness(since_ns=round(last - _LATE * (last - first)))
    if run.learned_ms is None or whole is None or late is None:
        return None
    thought = run.learned_ms / np.median(run.learned_ms)
    shown = np.clip(thought, np.minimum(whole, late), np.maximum(whole, late))
    ratio = thought / shown
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
