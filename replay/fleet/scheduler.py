"""Scheduler of a simulated worker: which requests the next step computes, and what its end gives.

The same rules as `worker.engine.scheduler`, on numbers instead of tokens. Blocks are visible from
the start of the step that computes them; tokens come at its end. Helpers of `kernels`, compiled
into them.
"""

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, rare_helper
from radixroute.replay.arrays import Cells, Floats
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.blocks import (
    allocate,
    find,
    free_duplicates,
    node_at,
    publish,
    release,
)
from radixroute.replay.fleet.decode_fast_forward import (
    finish_fast_forward,
    plan_fast_forward,
    step_ns,
)
from radixroute.replay.fleet.runs import blocks_in, cut, pin


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


@helper
def _place(
    request: Numbers,
    n_tokens: int,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    runs: Numbers,
    buckets: Numbers,
    limits: Numbers,
    words: Keys,
    cursors: Numbers,
) -> None:
    """Takes the next `n_tokens` into the step: blocks for them, full ones visible now."""
    end = request[at.COMPUTED] + n_tokens
    request[at.STEP_TOKENS] = n_tokens
    short = _blocks(end, limits) - _n_held(request)
    full = end // limits[at.BLOCK]
    if short > 0 or full > request[at.N_CHAINED]:
        fresh = allocate(short, worker, slots, runs, buckets, words, cursors)
        fresh = publish(request, full, fresh, nodes, worker, slots, runs, buckets, words, cursors)
        if fresh >= 0:
            request[at.PARTIAL] = fresh


@rare_helper
def _preempt(
    now_ns: int,
    place: int,
    requests: Numbers,
    running: Cells,
    worker: Numbers,
    slots: Cells,
    runs: Numbers,
) -> None:
    """The request at this place of the running ones waits again, before all others."""
    index = running[place]
    request = requests[index]
    # Its last step ended just now: a worker with running requests never pauses.
    release(request, worker, slots, runs, now_ns, 0)
    request[at.LOST] = request[at.COMPUTED]
    request[at.COMPUTED] = 0
    request[at.STEP_TOKENS] = 0
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
    runs: Numbers,
    buckets: Numbers,
    running: Cells,
    limits: Numbers,
) -> bool:
    """The head of the queue runs from now on, if all its known tokens fit."""
    index = worker[at.WAIT_HEAD]
    if index < 0 or worker[at.N_RUNNING] >= limits[at.MAX_SEQS]:
        return False
    request = requests[index]
    reusable = (_known(request) - 1) // limits[at.BLOCK]
    hits, leaf = 0, -1
    while hits < reusable:
        slot = find(buckets, node_at(request, nodes, hits))
        if slot < 0:
            break
        leaf = slot
        hits += 1
    run = cut(worker, slots, runs, leaf, hits) if hits > 0 else -1
    above, cold = run, 0
    while above >= 0 and runs[above, at.LOCKS] == 0:
        cold += blocks_in(runs, above)
        above = runs[above, at.ABOVE]
    spare = limits[at.WATERMARK] if worker[at.N_RUNNING] else 0
    wanted = _blocks(_known(request), limits) - hits + spare
    if wanted > worker[at.N_FREE] + worker[at.N_COLD] - cold:
        return False
    pin(worker, runs, run, -1)
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


@rare_helper
def begin(
    now_ns: int,
    requests: Numbers,
    nodes: Cells,
    worker: Numbers,
    slots: Cells,
    runs: Numbers,
    buckets: Numbers,
    running: Cells,
    limits: Numbers,
    timing: Floats,
    words: Keys,
    cursors: Numbers,
) -> None:
    """Schedules the next step of an idle worker; it stays idle when nothing can run."""
    budget, n_preempted = limits[at.MAX_BATCHED], worker[at.N_PREEMPTED]
    prefill, decodes, context = 0, 0, 0
    prompts, pairs = 0, 0
    place = 0
    while budget > 0:
        if place == worker[at.N_RUNNING] and (
            worker[at.N_PREEMPTED] != n_preempted
            or not _admit(now_ns, requests, nodes, worker, slots, runs, buckets, running, limits)
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
            _preempt(now_ns, victim, requests, running, worker, slots, runs)
        if is_gone:
            break
        if remaining == 1 and request[at.GENERATED] > 0:
            decodes += 1
            context += _known(request)
        else:
            prefill += wanted
            prompts += 1
            # Each token reads what was computed before it, and itself.
            pairs += wanted * request[at.COMPUTED] + wanted * (wanted + 1) // 2
        _place(request, wanted, nodes, worker, slots, runs, buckets, limits, words, cursors)
        budget -= wanted
        place += 1
    worker[at.STEP_END] = -1
    if place == 0:
        return
    worker[at.STEP_START] = now_ns
    worker[at.STEP_END] = now_ns + step_ns(prefill, prompts, pairs, decodes, context, timing)
    worker[at.STEP_PREFILL] = prefill
    worker[at.STEP_DECODES] = decodes
    worker[at.STEP_CONTEXT] = context
    worker[at.FAST_FORWARD_STEPS] = 1
    worker[at.FAST_FORWARD_END] = worker[at.STEP_END]
    # Who waits was refused by this step and will be by those alike; after a preemption nobody was
    # looked at. No duplicate becomes free at its end: who decodes fills blocks that nobody else can
    # have.
    is_refused = worker[at.N_WAITING] == 0 or worker[at.N_PREEMPTED] == n_preempted
    is_whole = place == worker[at.N_RUNNING]
    if prefill == 0 and is_refused and is_whole:
        plan_fast_forward(worker, requests, running, limits, timing)


@helper
def _item(index: int, kind: int, items: Numbers, cursors: Numbers) -> None:
    n = cursors[at.N_ITEMS]
    items[n, 0], items[n, 1] = index, kind
    cursors[at.N_ITEMS] = n + 1


@rare_helper
def end(
    which: int,
    requests: Numbers,
    worker: Numbers,
    slots: Cells,
    runs: Numbers,
    running: Cells,
    timing: Floats,
    reports: Numbers,
    items: Numbers,
    cursors: Numbers,
) -> int:
    """The step is over: tokens come, finished requests go. NOTHING, REPORT or FOLLOWED."""
    if worker[at.FAST_FORWARD_STEPS] > 1:
        finish_fast_forward(worker, requests, running, timing)
    now_ns = worker[at.STEP_END]
    free_duplicates(worker, slots)
    first_item = cursors[at.N_ITEMS]
    kept, outcome = 0, at.REPORT
    for place in range(worker[at.N_RUNNING]):
        index = running[place]
        request = requests[index]
        request[at.COMPUTED] += request[at.STEP_TOKENS]
        n_tokens, request[at.STEP_TOKENS] = request[at.STEP_TOKENS], 0
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
                if request[at.IS_FOLLOWED]:
                    outcome = at.FOLLOWED
                release(request, worker, slots, runs, now_ns, request[at.LAST_OF])
            if kind:
                _item(index, kind, items, cursors)
        if not is_done:
            running[kept] = index
            kept += 1
    worker[at.N_RUNNING] = kept
    step_ns = now_ns - worker[at.STEP_START]
    worker[at.BUSY_NS] += step_ns
    worker[at.STEP_END] = -1
    n_items = cursors[at.N_ITEMS] - first_item
    if n_items == 0 and worker[at.STEP_PREFILL] == 0:
        worker[at.N_DECODE_STEPS] += 1
        worker[at.DECODE_NS] += step_ns
        worker[at.DECODED] += worker[at.STEP_DECODES]
        return at.NOTHING
    report = reports[cursors[at.N_REPORTS]]
    cursors[at.N_REPORTS] += 1
    report[at.R_END] = now_ns
    report[at.R_WORKER] = which
    report[at.R_STEP_NS] = step_ns
    report[at.R_PREFILL] = worker[at.STEP_PREFILL]
    report[at.R_DECODES] = worker[at.STEP_DECODES]
    report[at.R_FIRST_ITEM] = first_item
    report[at.R_N_ITEMS] = n_items
    report[at.R_DECODE_STEPS] = worker[at.N_DECODE_STEPS]
    report[at.R_DECODE_NS] = worker[at.DECODE_NS]
    report[at.R_DECODED] = worker[at.DECODED]
    worker[at.N_DECODE_STEPS] = worker[at.DECODE_NS] = worker[at.DECODED] = 0
    return outcome
