"""Kernels of the simulated fleet: what its workers' schedulers do, pass by pass.

The same rules as `worker.scheduler`, on numbers instead of tokens. Blocks are visible from the
start of the pass that computes them; tokens come at its end. Tests hold it equal to the real one.
Importing this module compiles or loads from the cache (`radix.jit`).
"""

import numpy as np

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.replay import fleet_layout as at
from radixroute.replay.fleet_blocks import allocate, find, key_of, publish, push_free, release, use
from radixroute.replay.fleet_layout import Cells, Floats


@helper
def _blocks(n_tokens: int, limits: Numbers) -> int:
    return (n_tokens + limits[at.BLOCK] - 1) // limits[at.BLOCK]  # type: ignore[no-any-return]


@helper
def _n_held(request: Numbers) -> int:
    return request[at.N_CHAINED] + (1 if request[at.PARTIAL] >= 0 else 0)  # type: ignore[no-any-return]


@helper
def _known(request: Numbers) -> int:
    """Prompt and generated tokens: with the last of them computed the next one is sampled."""
    return request[at.PROMPT] + request[at.GENERATED]  # type: ignore[no-any-return]


@kernel("void(int64[::1], uint64[::1])")
def keys_of(nodes: Numbers, keys: Keys) -> None:
    """Block keys of nodes, into `keys`."""
    for i in range(len(nodes)):
        keys[i] = key_of(nodes[i])


@helper
def _place(
    request: Numbers,
    n_tokens: int,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    buckets: Cells,
    limits: Numbers,
    words: Keys,
    cursors: Numbers,
) -> None:
    """Takes the next `n_tokens` into the pass: blocks for them, full ones visible now."""
    end = request[at.COMPUTED] + n_tokens
    request[at.PASS_TOKENS] = n_tokens
    short = _blocks(end, limits) - _n_held(request)
    full = end // limits[at.BLOCK]
    if short > 0 or full > request[at.N_CHAINED]:
        fresh = allocate(short, worker, slots, buckets, limits, words, cursors)
        fresh = publish(request, full, fresh, nodes, worker, slots, buckets, limits, words, cursors)
        if fresh >= 0:
            request[at.PARTIAL] = fresh


@rare_helper
def _preempt(place: int, requests: Numbers, running: Cells, worker: Numbers, slots: Cells) -> None:
    """The request at this place of the running ones waits again, before all others."""
    index = running[place]
    request = requests[index]
    release(request, worker, slots)
    request[at.LOST] = request[at.COMPUTED]
    request[at.COMPUTED] = 0
    request[at.PASS_TOKENS] = 0
    request[at.STATE] = at.WAITING
    request[at.NEXT] = worker[at.WAIT_HEAD]
    worker[at.WAIT_HEAD] = index
    if worker[at.WAIT_TAIL] < 0:
        worker[at.WAIT_TAIL] = index
    worker[at.N_WAITING] += 1
    for i in range(place, worker[at.N_RUNNING] - 1):
        running[i] = running[i + 1]
    worker[at.N_RUNNING] -= 1
    worker[at.N_PREEMPTED] += 1


@rare_helper
def _admit(
    now_ns: int,
    requests: Numbers,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    buckets: Cells,
    running: Cells,
    limits: Numbers,
) -> bool:
    """The head of the queue runs from now on, if all its known tokens fit."""
    index = worker[at.WAIT_HEAD]
    if index < 0 or worker[at.N_RUNNING] >= limits[at.MAX_SEQS]:
        return False
    request = requests[index]
    reusable = min((_known(request) - 1) // limits[at.BLOCK], request[at.N_NODES])
    hits, cold, leaf = 0, 0, -1
    while hits < reusable:
        slot = find(buckets, slots, nodes[request[at.FIRST_NODE] + hits])
        if slot < 0:
            break
        cold += slots[slot, at.USERS] == 0
        leaf = slot
        hits += 1
    spare = limits[at.WATERMARK] if worker[at.N_RUNNING] else 0
    wanted = _blocks(_known(request), limits) - hits + spare
    if wanted > worker[at.N_FREE] + worker[at.N_COLD] - cold:
        return False
    slot = leaf
    while slot >= 0:
        use(worker, slots, slot)
        slot = slots[slot, at.PARENT]
    worker[at.WAIT_HEAD] = request[at.NEXT]
    if request[at.NEXT] < 0:
        worker[at.WAIT_TAIL] = -1
    worker[at.N_WAITING] -= 1
    running[worker[at.N_RUNNING]] = index
    worker[at.N_RUNNING] += 1
    request[at.STATE] = at.RUNNING
    request[at.LEAF] = leaf
    request[at.N_CHAINED] = hits
    request[at.COMPUTED] = hits * limits[at.BLOCK]
    if request[at.CACHED] < 0:
        request[at.CACHED] = request[at.COMPUTED]
        request[at.ADMITTED_NS] = now_ns
    else:
        request[at.RECOMPUTED] += max(0, request[at.LOST] - request[at.COMPUTED])
    return True


@helper
def _pass_ns(prefill: int, decodes: int, context: int, timing: Floats) -> int:
    ms = 0.0
    if prefill > 0:
        t = np.float64(prefill)
        ms += (timing[at.A2] * t + timing[at.A1]) * t + timing[at.A0]
    if decodes > 0:
        p = context / timing[at.D_TOTAL]
        decode_ms = (timing[at.D2] * p + timing[at.D1]) * p + timing[at.D0]
        decode_ms += timing[at.D_EACH] * decodes
        ms += max(timing[at.D_MIN], decode_ms)
    return max(1, np.int64(np.rint(ms * timing[at.SLOWNESS] * 1e6)))  # type: ignore[return-value]


@rare_helper
def _begin(
    now_ns: int,
    requests: Numbers,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    buckets: Cells,
    running: Cells,
    limits: Numbers,
    timing: Floats,
    words: Keys,
    cursors: Numbers,
) -> None:
    """Schedules the next pass of an idle worker; it stays idle when nothing can run."""
    budget, n_preempted = limits[at.MAX_BATCHED], worker[at.N_PREEMPTED]
    prefill, decodes, context = 0, 0, 0
    place = 0
    while budget > 0:
        if place == worker[at.N_RUNNING] and (
            worker[at.N_PREEMPTED] != n_preempted
            or not _admit(now_ns, requests, nodes, worker, slots, buckets, running, limits)
        ):
            break
        request = requests[running[place]]
        remaining = _known(request) - request[at.COMPUTED]
        wanted = min(remaining, budget)
        short = _blocks(request[at.COMPUTED] + wanted, limits) - _n_held(request)
        is_gone = False
        while short > worker[at.N_FREE] + worker[at.N_COLD] and not is_gone:
            victim = worker[at.N_RUNNING] - 1
            is_gone = victim == place
            _preempt(victim, requests, running, worker, slots)
        if is_gone:
            break
        if remaining == 1 and request[at.GENERATED] > 0:
            decodes += 1
            context += _known(request)
        else:
            prefill += wanted
        _place(request, wanted, nodes, worker, slots, buckets, limits, words, cursors)
        budget -= wanted
        place += 1
    worker[at.PASS_END] = -1
    if place > 0:
        worker[at.PASS_START] = now_ns
        worker[at.PASS_END] = now_ns + _pass_ns(prefill, decodes, context, timing)
        worker[at.PASS_PREFILL] = prefill
        worker[at.PASS_DECODES] = decodes


@helper
def _item(index: int, kind: int, items: Numbers, cursors: Numbers) -> None:
    n = cursors[at.N_ITEMS]
    items[n, 0], items[n, 1] = index, kind
    cursors[at.N_ITEMS] = n + 1


@rare_helper
def _end(
    which: int,
    requests: Numbers,
    worker: Numbers,
    slots: Cells,
    running: Cells,
    reports: Numbers,
    items: Numbers,
    cursors: Numbers,
) -> bool:
    """The pass is over: tokens come, finished requests go. Whether there is something to report."""
    now_ns = worker[at.PASS_END]
    slot = worker[at.TWIN_HEAD]
    while slot >= 0:
        after = slots[slot, at.AFTER]
        push_free(worker, slots, slot)
        slot = after
    worker[at.TWIN_HEAD] = -1
    first_item = cursors[at.N_ITEMS]
    kept = 0
    for place in range(worker[at.N_RUNNING]):
        index = running[place]
        request = requests[index]
        request[at.COMPUTED] += request[at.PASS_TOKENS]
        n_tokens, request[at.PASS_TOKENS] = request[at.PASS_TOKENS], 0
        is_done = False
        if n_tokens > 0 and request[at.COMPUTED] == _known(request):
            request[at.GENERATED] += 1
            kind = 0
            if request[at.FIRST_NS] < 0:
                request[at.FIRST_NS] = now_ns
                kind = at.FIRST_TOKEN
            if request[at.GENERATED] >= request[at.OUTPUT]:
                is_done = True
                kind |= at.LAST_TOKEN
                request[at.FINISH_NS] = now_ns
                request[at.STATE] = at.DONE
                release(request, worker, slots)
            if kind:
                _item(index, kind, items, cursors)
        if not is_done:
            running[kept] = index
            kept += 1
    worker[at.N_RUNNING] = kept
    pass_ns = now_ns - worker[at.PASS_START]
    worker[at.BUSY_NS] += pass_ns
    worker[at.PASS_END] = -1
    n_items = cursors[at.N_ITEMS] - first_item
    if n_items == 0 and worker[at.PASS_PREFILL] == 0:
        worker[at.N_DECODE_PASSES] += 1
        worker[at.DECODE_NS] += pass_ns
        worker[at.DECODED] += worker[at.PASS_DECODES]
        return False
    report = reports[cursors[at.N_REPORTS]]
    cursors[at.N_REPORTS] += 1
    report[at.R_END] = now_ns
    report[at.R_WORKER] = which
    report[at.R_PASS_NS] = pass_ns
    report[at.R_PREFILL] = worker[at.PASS_PREFILL]
    report[at.R_DECODES] = worker[at.PASS_DECODES]
    report[at.R_FIRST_ITEM] = first_item
    report[at.R_N_ITEMS] = n_items
    report[at.R_DECODE_PASSES] = worker[at.N_DECODE_PASSES]
    report[at.R_DECODE_NS] = worker[at.DECODE_NS]
    report[at.R_DECODED] = worker[at.DECODED]
    worker[at.N_DECODE_PASSES] = worker[at.DECODE_NS] = worker[at.DECODED] = 0
    return True


@kernel("void(int64[:, ::1], int64[::1], int64, int64, int64)")
def submit(requests: Numbers, worker: Numbers, index: int, which: int, now_ns: int) -> None:
    """The request has reached this worker and waits there."""
    request = requests[index]
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


@kernel(
    "int64(int64, int64, int64, int64[:, ::1], int32[::1], int64[:, ::1], int32[:, :, ::1],"
    " int32[:, ::1], int32[:, ::1], int64[::1], float64[:, ::1], uint64[::1], int64[:, ::1],"
    " int64[:, ::1], int64[:, ::1], int64[::1])"
)
def advance(
    now_ns: int,
    until_ns: int,
    stops: int,
    requests: Numbers,
    nodes: Cells,
    workers: Numbers,
    slots: Cells,
    buckets: Cells,
    running: Cells,
    limits: Numbers,
    timing: Floats,
    words: Keys,
    events: Numbers,
    reports: Numbers,
    items: Numbers,
    cursors: Numbers,
) -> int:
    """Goes on from `now_ns`, whose inputs are all in, to `until_ns`, whose passes do not begin yet.

    With `stops`, only to the first time at which there is something to report. Returns the time
    reached; earlier than `until_ns` also when a buffer is nearly full: empty them and go on.
    """
    n_workers = len(workers)
    spare_words = 8 * (limits[at.MAX_BATCHED] // limits[at.BLOCK] + limits[at.MAX_SEQS] + 8)
    while True:
        for which in range(n_workers):
            worker = workers[which]
            if worker[at.PASS_END] >= 0 or worker[at.N_RUNNING] + worker[at.N_WAITING] == 0:
                continue
            if (
                len(words) - cursors[at.N_WORDS] < spare_words
                or len(events) - cursors[at.N_EVENTS] < 2
            ):
                return -1 - now_ns
            begun = cursors[at.N_WORDS]
            _begin(
                now_ns,
                requests,
                nodes,
                worker,
                slots[which],
                buckets[which],
                running[which],
                limits,
                timing[which],
                words,
                cursors,
            )
            if cursors[at.N_WORDS] > begun:
                event = events[cursors[at.N_EVENTS]]
                cursors[at.N_EVENTS] += 1
                event[0], event[1], event[2], event[3] = now_ns, which, begun, cursors[at.N_WORDS]
        best = -1
        for which in range(n_workers):
            end = workers[which, at.PASS_END]
            if end >= 0 and (best < 0 or end < best):
                best = end
        if best < 0 or best > until_ns:
            return until_ns
        now_ns = best
        is_told = False
        for which in range(n_workers):
            if workers[which, at.PASS_END] == now_ns:
                is_told |= _end(
                    which,
                    requests,
                    workers[which],
                    slots[which],
                    running[which],
                    reports,
                    items,
                    cursors,
                )
        full = (
            len(reports) - cursors[at.N_REPORTS] < n_workers
            or len(items) - cursors[at.N_ITEMS] < n_workers * limits[at.MAX_SEQS]
        )
        if now_ns == until_ns or full or (is_told and stops):
            return now_ns
