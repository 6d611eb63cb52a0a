"""Runs of a simulated worker: its tree of cached prefixes, what is in use and what goes first.

The same rules as `radix.tree.radix_tree`, with the rank of `radix.tree.eviction`, down to the order
among equals: a run is a node of that tree, and -1 its root. A touch counts only when its run may be
evicted, so it is made when a request leaves. Helpers of `blocks`, compiled into `kernels`.
"""

from radixroute.radix.ids import Numbers
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.tree.eviction import dearer, head_start, interval_after
from radixroute.replay.arrays import Cells
from radixroute.replay.fleet import layout as at

# The very formulas of the tree; numba's cache counts their file, too.
_interval_after, _head_start, _dearer = helper(interval_after), helper(head_start), helper(dearer)


@helper
def run_at(slots: Cells, slot: int) -> int:
    """The run of this slot; of none, the root."""
    if slot < 0:
        return -1
    return slots[slot, at.RUN]  # type: ignore[no-any-return]


@helper
def blocks_in(runs: Numbers, run: int) -> int:
    above = runs[run, at.ABOVE]
    if above < 0:
        return runs[run, at.END]  # type: ignore[no-any-return]
    return runs[run, at.END] - runs[above, at.END]  # type: ignore[no-any-return]


@rare_helper
def pin(worker: Numbers, runs: Numbers, run: int, until: int) -> None:
    """A request uses this run and those before it, as far as `until`, which it uses already."""
    while run != until:
        runs[run, at.LOCKS] += 1
        if runs[run, at.LOCKS] == 1:
            worker[at.N_COLD] -= blocks_in(runs, run)
            if runs[run, at.PLACE] >= 0:
                _unqueue(worker, runs, run)
        run = runs[run, at.ABOVE]


@rare_helper
def unpin(worker: Numbers, runs: Numbers, run: int, now_ns: int, session_uses: int) -> None:
    """A request that used this run and all before it until now does so no longer.

    `session_uses`: it is the last of a session that had so many; 0: nobody says so.
    """
    while run >= 0:
        runs[run, at.TOUCHED] = now_ns
        if runs[run, at.USES] > 0:
            since = worker[at.N_STORED] - runs[run, at.USED_AT]
            runs[run, at.INTERVAL] = _interval_after(runs[run, at.INTERVAL], since)
        runs[run, at.USES] += 1
        runs[run, at.USED_AT] = worker[at.N_STORED]
        runs[run, at.IS_OVER] = 1 if runs[run, at.USES] <= session_uses else 0
        runs[run, at.LOCKS] -= 1
        if runs[run, at.LOCKS] == 0:
            worker[at.N_COLD] += blocks_in(runs, run)
            if runs[run, at.CHILDREN] == 0:
                _queue(worker, runs, run)
        run = runs[run, at.ABOVE]


@rare_helper
def cut(worker: Numbers, slots: Cells, runs: Numbers, slot: int, end: int) -> int:
    """The run that ends with `slot`, which is `end` blocks from the start: made if there is none.

    The new one takes the upper part: requests stand at the lower one's end.
    """
    run = int(slots[slot, at.RUN])
    if runs[run, at.END] == end:
        return run
    upper = _new(worker, runs)
    runs[upper, at.TOUCHED] = runs[run, at.TOUCHED]
    runs[upper, at.USES] = runs[run, at.USES]
    runs[upper, at.USED_AT] = runs[run, at.USED_AT]
    runs[upper, at.INTERVAL] = runs[run, at.INTERVAL]
    runs[upper, at.IS_OVER] = runs[run, at.IS_OVER]
    runs[upper, at.LOCKS] = runs[run, at.LOCKS]
    runs[upper, at.CHILDREN] = 1
    runs[upper, at.ABOVE] = runs[run, at.ABOVE]
    runs[upper, at.END] = end
    runs[upper, at.TAIL] = slot
    runs[run, at.ABOVE] = upper
    for _ in range(blocks_in(runs, upper)):
        slots[slot, at.RUN] = upper
        slot = int(slots[slot, at.PARENT])
    return upper


@rare_helper
def grow(worker: Numbers, runs: Numbers, above: int, end: int) -> int:
    """The run for new blocks of the only request that stands at the end of `above`."""
    run = above
    if above < 0 or runs[above, at.LOCKS] > 1 or runs[above, at.CHILDREN] > 0:
        run = _new(worker, runs)
        runs[run, at.TOUCHED] = 0
        runs[run, at.USES] = 0
        runs[run, at.INTERVAL] = 0
        runs[run, at.IS_OVER] = 0
        runs[run, at.LOCKS] = 1
        runs[run, at.CHILDREN] = 0
        runs[run, at.ABOVE] = above
        if above >= 0:
            runs[above, at.CHILDREN] += 1
    runs[run, at.END] = end
    return run


@helper
def evict(worker: Numbers, slots: Cells, runs: Numbers) -> int:
    """Takes the coldest block out of the tree; its slot."""
    run = _first(worker, runs)
    slot = runs[run, at.TAIL]
    runs[run, at.TAIL] = slots[slot, at.PARENT]
    runs[run, at.END] -= 1
    worker[at.N_COLD] -= 1
    worker[at.N_EVICTED] += 1
    if blocks_in(runs, run) == 0:
        _drop(worker, runs, run)
    return slot  # type: ignore[no-any-return]


@rare_helper
def _drop(worker: Numbers, runs: Numbers, run: int) -> None:
    """A run without blocks; the one before it may be evicted now."""
    _unqueue(worker, runs, run)
    above = runs[run, at.ABOVE]
    if above >= 0:
        runs[above, at.CHILDREN] -= 1
        if runs[above, at.CHILDREN] == 0 and runs[above, at.LOCKS] == 0:
            _queue(worker, runs, above)
    runs[run, at.ABOVE] = worker[at.FREE_RUN]
    worker[at.FREE_RUN] = run


@helper
def _new(worker: Numbers, runs: Numbers) -> int:
    run = worker[at.FREE_RUN]
    if run >= 0:
        worker[at.FREE_RUN] = runs[run, at.ABOVE]
    else:
        run = worker[at.N_RUNS]
        worker[at.N_RUNS] += 1
    runs[run, at.BORN] = worker[at.N_BORN]
    worker[at.N_BORN] += 1
    runs[run, at.PLACE] = -1
    return run  # type: ignore[no-any-return]


# -- the queue: binary heaps of runs without users and without runs below; those of sessions that
# are over have their own


@helper
def _rank(worker: Numbers, runs: Numbers, run: int) -> int:
    if worker[at.USE_TOP] == 0:
        return runs[run, at.TOUCHED]  # type: ignore[no-any-return]
    start = _head_start(
        runs[run, at.USES],
        runs[run, at.INTERVAL],
        worker[at.USE_STEP],
        worker[at.USE_TOP],
        worker[at.USE_INTERVALS],
    )
    start = _dearer(start, runs[run, at.END], worker[at.USE_FAR])
    return runs[run, at.USED_AT] + start  # type: ignore[no-any-return]


@helper
def _goes_before(runs: Numbers, run: int, other: int) -> bool:
    """The smaller rank; of equals the one touched longer ago, then the older one."""
    if runs[run, at.RANK] != runs[other, at.RANK]:
        return runs[run, at.RANK] < runs[other, at.RANK]  # type: ignore[no-any-return]
    if runs[run, at.TOUCHED] != runs[other, at.TOUCHED]:
        return runs[run, at.TOUCHED] < runs[other, at.TOUCHED]  # type: ignore[no-any-return]
    return runs[run, at.BORN] < runs[other, at.BORN]  # type: ignore[no-any-return]


@helper
def _first(worker: Numbers, runs: Numbers) -> int:
    """The run that goes next: as `EvictionQueue.first`."""
    if worker[at.N_OVER] == 0:
        return runs[0, at.QUEUE]  # type: ignore[no-any-return]
    over, other = runs[0, at.OVER_QUEUE], runs[0, at.QUEUE]
    # Least recently used ranks by time, which blocks cannot be taken from.
    rank = at.USED_AT if worker[at.USE_TOP] == 0 else at.RANK
    if worker[at.N_QUEUED] > 0 and runs[over, rank] - worker[at.OVER_AGE] > runs[other, rank]:
        return other  # type: ignore[no-any-return]
    return over  # type: ignore[no-any-return]


@helper
def _heap_of(runs: Numbers, run: int) -> int:
    """The column of the heap that this run stands in."""
    return at.QUEUE if runs[run, at.IS_OVER] == 0 else at.OVER_QUEUE


@helper
def _count_of(runs: Numbers, run: int) -> int:
    """The worker's column that counts the runs of that heap."""
    return at.N_QUEUED if runs[run, at.IS_OVER] == 0 else at.N_OVER


@helper
def _stand(runs: Numbers, heap: int, run: int, place: int) -> None:
    runs[place, heap] = run
    runs[run, at.PLACE] = place


@rare_helper
def _rise(runs: Numbers, heap: int, run: int, place: int) -> int:
    """Moves a run up from `place`, which is its to take, to where it belongs."""
    while place > 0:
        over = (place - 1) // 2
        other = runs[over, heap]
        if not _goes_before(runs, run, other):
            break
        _stand(runs, heap, other, place)
        place = over
    _stand(runs, heap, run, place)
    return place


@rare_helper
def _sink(n: int, runs: Numbers, heap: int, run: int, place: int) -> None:
    while 2 * place + 1 < n:
        under = 2 * place + 1
        if under + 1 < n and _goes_before(runs, runs[under + 1, heap], runs[under, heap]):
            under += 1
        other = runs[under, heap]
        if not _goes_before(runs, other, run):
            break
        _stand(runs, heap, other, place)
        place = under
    _stand(runs, heap, run, place)


@helper
def _queue(worker: Numbers, runs: Numbers, run: int) -> None:
    runs[run, at.RANK] = _rank(worker, runs, run)
    count = _count_of(runs, run)
    worker[count] += 1
    _rise(runs, _heap_of(runs, run), run, worker[count] - 1)


@helper
def _unqueue(worker: Numbers, runs: Numbers, run: int) -> None:
    place, heap, count = runs[run, at.PLACE], _heap_of(runs, run), _count_of(runs, run)
    runs[run, at.PLACE] = -1
    worker[count] -= 1
    last = runs[worker[count], heap]
    if last != run:
        _sink(worker[count], runs, heap, last, _rise(runs, heap, last, place))
