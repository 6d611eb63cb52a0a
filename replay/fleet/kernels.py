"""Kernels of the simulated fleet: its workers' steps in order of time.

What a step does is the business of `scheduler`. Tests hold it all equal to real schedulers.
Importing this module compiles or loads from the cache (`radix.jit`).
"""

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.replay.arrays import Cells, Floats
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.agenda import (
    first_at,
    keep_idle,
    note_end,
    note_idle,
    sort_idle,
    take_idle,
)
from radixroute.replay.fleet.blocks import key_of
from radixroute.replay.fleet.decode_fast_forward import fast_forward_to
from radixroute.replay.fleet.scheduler import begin, end


@kernel("void(int32[::1], uint64[::1])")
def keys_of(nodes: Cells, keys: Keys) -> None:
    """Block keys of nodes, into `keys`."""
    for i in range(len(nodes)):
        keys[i] = key_of(nodes[i])


@helper
def words_of_a_step(limits: Numbers) -> int:
    """No step tells more: two events for each request, and each block gone and stored."""
    most = limits[at.MAX_BATCHED] // limits[at.BLOCK] + limits[at.MAX_SEQS] + 1
    return 8 * most  # type: ignore[no-any-return]


@rare_helper
def _settle(
    now_ns: int,
    which: int,
    requests: Numbers,
    worker: Numbers,
    running: Cells,
    timing: Floats,
    ends: Numbers,
    idle: Numbers,
) -> None:
    """Steps of a fast forward that are over by now are told apart from those to come."""
    if worker[at.STEP_END] >= 0 and worker[at.STEP_END] <= now_ns:
        fast_forward_to(now_ns, worker, requests, running, timing)
        if worker[at.STEP_END] < 0:
            note_end(ends, which, at.NEVER)
            note_idle(idle, which)


@helper
def _interrupt(
    now_ns: int,
    which: int,
    requests: Numbers,
    worker: Numbers,
    running: Cells,
    timing: Floats,
    ends: Numbers,
    idle: Numbers,
) -> None:
    """The step that runs goes on; the next one is decided anew."""
    _settle(now_ns, which, requests, worker, running, timing, ends, idle)
    if worker[at.STEP_END] >= 0:
        worker[at.FAST_FORWARD_STEPS] = 1
        worker[at.FAST_FORWARD_END] = worker[at.STEP_END]
        note_end(ends, which, worker[at.FAST_FORWARD_END])
    else:
        note_idle(idle, which)


@kernel(
    "void(int64[:, ::1], int64[:, ::1], int32[:, ::1], float64[:, ::1], int64[::1], int64[::1],"
    " int64, int64, int64)"
)
def submit(
    requests: Numbers,
    workers: Numbers,
    running: Cells,
    timing: Floats,
    ends: Numbers,
    idle: Numbers,
    index: int,
    which: int,
    now_ns: int,
) -> None:
    """The request has reached this worker and waits there."""
    request, worker = requests[index], workers[which]
    request[at.WORKER] = which
    request[at.STATE] = at.WAITING
    request[at.ARRIVED_NS] = now_ns
    request[at.NEXT] = -1
    tail = worker[at.WAIT_TAIL]
    if tail >= 0:
        requests[tail, at.NEXT] = index
    else:
        worker[at.WAIT_HEAD] = index
    worker[at.WAIT_TAIL] = index
    worker[at.N_WAITING] += 1
    # The next step asks it in.
    _interrupt(now_ns, which, requests, worker, running[which], timing[which], ends, idle)


@kernel(
    "void(int64[:, ::1], int64[:, ::1], int32[:, ::1], float64[:, ::1], int64[::1], int64[::1],"
    " int64, int64)"
)
def interrupt(
    requests: Numbers,
    workers: Numbers,
    running: Cells,
    timing: Floats,
    ends: Numbers,
    idle: Numbers,
    which: int,
    now_ns: int,
) -> None:
    """Something changes at this worker: steps that begin from now on are decided anew."""
    worker = workers[which]
    _interrupt(now_ns, which, requests, worker, running[which], timing[which], ends, idle)


@kernel(
    "void(int64, int64[:, ::1], int64[:, ::1], int32[:, ::1], float64[:, ::1], int64[::1],"
    " int64[::1])"
)
def settle(
    now_ns: int,
    requests: Numbers,
    workers: Numbers,
    running: Cells,
    timing: Floats,
    ends: Numbers,
    idle: Numbers,
) -> None:
    """For whoever looks at the workers: their running step is the one of `now_ns`. O(workers)."""
    for which in range(len(workers)):
        _settle(now_ns, which, requests, workers[which], running[which], timing[which], ends, idle)


@rare_helper
def _begin_all(
    now_ns: int,
    requests: Numbers,
    nodes: Cells,
    workers: Numbers,
    slots: Cells,
    runs: Numbers,
    buckets: Numbers,
    running: Cells,
    limits: Numbers,
    timing: Floats,
    words: Keys,
    events: Numbers,
    cursors: Numbers,
    ends: Numbers,
    idle: Numbers,
) -> bool:
    """The next step of each idle worker; False: a buffer is nearly full."""
    spare_words = words_of_a_step(limits)
    sort_idle(idle)
    for place in range(idle[at.N_IDLE]):
        first = cursors[at.N_WORDS]
        if len(words) - first < spare_words or cursors[at.N_EVENTS] == len(events):
            keep_idle(idle, place)
            return False
        which = take_idle(idle, place)
        worker = workers[which]
        if worker[at.N_RUNNING] + worker[at.N_WAITING] == 0:
            continue
        begin(
            now_ns,
            requests,
            nodes,
            worker,
            slots[which],
            runs[which],
            buckets[which],
            running[which],
            limits,
            timing[which],
            words,
            cursors,
        )
        if worker[at.STEP_END] >= 0:
            note_end(ends, which, worker[at.FAST_FORWARD_END])
        if cursors[at.N_WORDS] > first:
            event = events[cursors[at.N_EVENTS]]
            cursors[at.N_EVENTS] += 1
            event[0], event[1], event[2], event[3] = now_ns, which, first, cursors[at.N_WORDS]
    idle[at.N_IDLE] = 0
    return True


@kernel(
    "int64(int64, int64, int64, int64[:, ::1], int32[::1], int64[:, ::1], int32[:, :, ::1],"
    " int64[:, :, ::1], int64[:, ::1], int32[:, ::1], int64[::1], float64[:, ::1], uint64[::1],"
    " int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1])"
)
def advance(
    now_ns: int,
    until_ns: int,
    stop: int,
    requests: Numbers,
    nodes: Cells,
    workers: Numbers,
    slots: Cells,
    runs: Numbers,
    buckets: Numbers,
    running: Cells,
    limits: Numbers,
    timing: Floats,
    words: Keys,
    events: Numbers,
    reports: Numbers,
    items: Numbers,
    cursors: Numbers,
    ends: Numbers,
    idle: Numbers,
) -> int:
    """Goes on from `now_ns`, whose inputs are all in, to `until_ns`, whose steps do not begin yet.

    Only to the first time at which something is told that is `stop` or more. Returns the time
    reached; -1 less that time when a buffer is nearly full: empty them and go on from there.
    O(log workers) for each end of a step that is no part of a fast forward.
    """
    n_workers = len(workers)
    while True:
        if (
            len(reports) - cursors[at.N_REPORTS] < n_workers
            or len(items) - cursors[at.N_ITEMS] < n_workers * limits[at.MAX_SEQS]
        ):
            return -1 - now_ns
        begun = _begin_all(
            now_ns,
            requests,
            nodes,
            workers,
            slots,
            runs,
            buckets,
            running,
            limits,
            timing,
            words,
            events,
            cursors,
            ends,
            idle,
        )
        if not begun:
            return -1 - now_ns
        best = ends[1]
        if best > until_ns:
            return until_ns
        outcome = at.NOTHING
        which = first_at(ends, best)
        while which >= 0:
            worker = workers[which]
            outcome = max(
                outcome,
                end(
                    which,
                    requests,
                    worker,
                    slots[which],
                    runs[which],
                    running[which],
                    timing[which],
                    reports,
                    items,
                    cursors,
                ),
            )
            note_end(ends, which, at.NEVER)
            note_idle(idle, which)
            which = first_at(ends, best)
        now_ns = best
        if now_ns == until_ns or outcome >= stop:
            return now_ns
