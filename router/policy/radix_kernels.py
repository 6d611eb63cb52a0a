"""Kernels of the radix policy: what each worker would cost a request, and who goes where now.

Costs are milliseconds: the request's expected time to first token on a worker, and the harm done
there. `plan` looks at all waiting requests together and binds late: a request waits at the router
until the worker that suits it best can start it. Pure arithmetic on arrays; importing this module
compiles or loads from the cache (`radix.jit`).
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers, Runs
from radixroute.radix.jit import helper, kernel
from radixroute.router.policy.columns_layout import (
    BACKLOG_MS,
    DECODING,
    DRIFT,
    FILL,
    IN_FLIGHT,
    LAST_STEP_NS,
    MAX_BATCHED,
    MS_PER_DECODE,
    MS_PER_PREFILL,
    PASS_MS,
    PREFILL_BASE_MS,
    PROMPTS,
    QUEUED,
    S_BLOCK,
    S_CAP_FACTOR,
    S_LEAD_MS,
    S_MEAN_PREFILL_MS,
    S_MEAN_WAIT_MS,
    S_MIN_CAP,
    S_NOW_NS,
    S_OUTPUT,
    SINCE_NS,
    STEP_BASE_MS,
)

Floats: TypeAlias = NDArray[np.float64]

# Terms of a cost.
QUEUE: Final = 0
PREFILL: Final = 1
STEPS: Final = 2
COMPUTE: Final = 3
SLOW_DOWN: Final = 4
TURNOVER: Final = 5
REPLICA: Final = 6
N_TERMS: Final = 7

# Weights, tuned by replay (docs/policy.md says on what): one set for every fleet.
# Time spent computing is time that whoever comes next must wait.
COMPUTE_WEIGHT: Final = 0.15
# Those who run there pause for our prefill, and take longer for each token after it.
SLOW_DOWN_WEIGHT: Final = 0.005
# What is computed there pushes something out; on a worker that was given twice the mean lately,
# what goes is younger and twice as likely to be asked for. No more than a few thousand tokens
# count: a giant prompt should not wait for a colder cache.
TURNOVER_WEIGHT: Final = 0.15
TURNOVER_TOKENS: Final = 16384.0
# Prompts join one given in the same instant if their own part is below so many fixed costs of a
# pass: that much the first can wait, since the others save a pass each.
JOIN_PASSES: Final = 4.0
# A request that waited for so many mean waits goes before the shortest,
OVERDUE_WAITS: Final = 4.0
# and so does one that takes so many mean prefills: it is the tail, and others pass it elsewhere.
GIANT_PREFILLS: Final = 6.0
TIE_MS: Final = 1e-6  # costs this close are the same: below what step timings can tell


@helper
def _passes(tokens: float, table: Floats, w: int) -> float:
    return max(1.0, np.ceil(tokens / table[MAX_BATCHED, w]))  # type: ignore[no-any-return]


@helper
def _step_ms(table: Floats, w: int) -> float:
    """A pass that only decodes those who decode now."""
    if table[DECODING, w] <= 0.0:
        return 0.0
    return table[STEP_BASE_MS, w] + table[MS_PER_DECODE, w] * table[DECODING, w]  # type: ignore[no-any-return]


@helper
def _prefill_ms(tokens: float, table: Floats, w: int) -> float:
    """Of so many prompt tokens, without what decodes beside them."""
    passes = _passes(tokens, table, w)
    return passes * table[PREFILL_BASE_MS, w] + tokens * table[MS_PER_PREFILL, w]  # type: ignore[no-any-return]


@helper
def _uncached(prompt: float, overlap: int, block: float) -> float:
    """One prompt token is always computed."""
    most = np.floor(max(0.0, prompt - 1.0) / block)
    return prompt - min(np.float64(overlap), most) * block  # type: ignore[no-any-return]


@helper
def _cost(
    prompt: float,
    overlap: int,
    w: int,
    table: Floats,
    scalars: Floats,
    cap: float,
    mean_fill: float,
    terms: Floats,
) -> float:
    """Fills all `terms` but REPLICA for one request on one worker; their sum."""
    if table[IN_FLIGHT, w] >= cap:
        overlap = 0  # cache credit must not lift a worker above its share of the load
    tokens = _uncached(prompt, overlap, scalars[S_BLOCK])
    prefill = _prefill_ms(tokens, table, w)
    output = scalars[S_OUTPUT]
    terms[QUEUE] = table[BACKLOG_MS, w] if table[BACKLOG_MS, w] > 0.0 else table[PASS_MS, w]
    terms[PREFILL] = prefill
    terms[STEPS] = _passes(tokens, table, w) * _step_ms(table, w)
    terms[COMPUTE] = COMPUTE_WEIGHT * prefill
    lost = prefill + table[MS_PER_DECODE, w] * output
    terms[SLOW_DOWN] = SLOW_DOWN_WEIGHT * table[IN_FLIGHT, w] * lost
    pushed = min(tokens + output, TURNOVER_TOKENS) * table[MS_PER_PREFILL, w]
    ratio = table[FILL, w] / mean_fill if mean_fill > 0.0 else 0.0
    terms[TURNOVER] = TURNOVER_WEIGHT * pushed * ratio
    total = 0.0
    for i in range(REPLICA):
        total += terms[i]
    return total


@helper
def _copied_cost(
    prompt: float,
    overlap: int,
    longest: int,
    credit: float,
    w: int,
    table: Floats,
    scalars: Floats,
    cap: float,
    mean_fill: float,
    terms: Floats,
) -> tuple[float, float]:
    """Fills `terms` (N_TERMS,); their sum, and what it would be if the worker held `longest`
    blocks, the most that any holds. The difference is the cost of one more copy: REPLICA pays."""
    # What is expected may reach further than what anybody holds.
    most = max(overlap, longest)
    held = _cost(prompt, most, w, table, scalars, cap, mean_fill, terms)
    terms[REPLICA] = 0.0
    if overlap == most:
        return held, held
    total = _cost(prompt, overlap, w, table, scalars, cap, mean_fill, terms)
    terms[REPLICA] = -min(credit, max(0.0, total - held))
    return total + terms[REPLICA], held


@helper
def _mean_fill(table: Floats) -> float:
    total = 0.0
    for w in range(table.shape[1]):
        total += table[FILL, w]
    return total / table.shape[1]  # type: ignore[no-any-return]


@helper
def _cap(table: Floats, scalars: Floats) -> float:
    total = 0.0
    for w in range(table.shape[1]):
        total += table[IN_FLIGHT, w]
    share = np.ceil(scalars[S_CAP_FACTOR] * (total + 1.0) / table.shape[1])
    return max(scalars[S_MIN_CAP], share)  # type: ignore[no-any-return]


@helper
def _can_start(table: Floats, scalars: Floats, w: int) -> bool:
    """Whether the worker would start a prompt now, or as soon as it could be there."""
    if table[BACKLOG_MS, w] <= 0.0 and table[PROMPTS, w] <= 0.0:
        return True
    return table[PROMPTS, w] <= 1.0 and table[BACKLOG_MS, w] <= scalars[S_LEAD_MS]  # type: ignore[no-any-return]


@kernel("int64(float64[:, ::1], float64[::1])")
def prepare(table: Floats, scalars: Floats) -> int:
    """Fills BACKLOG_MS and PASS_MS from the rows before them; how many workers can start now."""
    now_ns, n_free = scalars[S_NOW_NS], 0
    for w in range(table.shape[1]):
        step = _step_ms(table, w)
        backlog, rest = 0.0, 0.0
        if table[QUEUED, w] > 0.0:
            tokens = table[QUEUED, w]
            whole = _prefill_ms(tokens, table, w) + _passes(tokens, table, w) * step
            # Late against the forecast: it may end any moment, but it has not.
            least = 0.01 if table[PROMPTS, w] > 0.0 else 0.0
            whole *= table[DRIFT, w]
            backlog = max(least, whole - (now_ns - table[SINCE_NS, w]) / 1e6)
        elif step > 0.0:
            rest = min(step, max(0.0, step - (now_ns - table[LAST_STEP_NS, w]) / 1e6))
        table[BACKLOG_MS, w] = backlog
        table[PASS_MS, w] = rest
        n_free += _can_start(table, scalars, w)
    return n_free


@kernel(
    "float64(float64, Array(int32, 1, 'C', readonly=True), int64,"
    " Array(float64, 2, 'C', readonly=True), Array(float64, 1, 'C', readonly=True), float64,"
    " float64, float64[:, ::1], float64[::1])"
)
def score(
    prompt: float,
    overlaps: Runs,
    longest: int,
    table: Floats,
    scalars: Floats,
    cap: float,
    credit: float,
    terms: Floats,
    one: Floats,
) -> float:
    """Terms of one request on every worker, shape (N_TERMS, workers); `one`: (N_TERMS,) of room.

    Returns the lowest cost if all held the `longest` blocks that any holds.
    """
    mean_fill, least = _mean_fill(table), np.inf
    for w in range(table.shape[1]):
        _, held = _copied_cost(
            prompt, overlaps[w], longest, credit, w, table, scalars, cap, mean_fill, one
        )
        least = min(least, held)
        for i in range(N_TERMS):
            terms[i, w] = one[i]
    return least


@helper
def _cheapest(costs: Floats, draw: np.uint64) -> int:
    """The lowest cost; ties break by the draw, never by position."""
    best, ties = np.inf, 0
    for w in range(len(costs)):
        best = min(best, costs[w])
    for w in range(len(costs)):
        ties += costs[w] <= best + TIE_MS
    skip = np.int64(draw % np.uint64(ties))
    for w in range(len(costs)):
        if costs[w] <= best + TIE_MS:
            if skip == 0:
                return w
            skip -= 1
    return 0


@helper
def _order(
    prompts: Floats,
    waited_ms: Floats,
    overlaps: Runs,
    table: Floats,
    scalars: Floats,
    order: Numbers,
    work: Floats,
) -> None:
    """Overdue ones, giants, then by what they would cost where they cost least."""
    n_requests, n_workers = overlaps.shape
    for r in range(n_requests):
        least = np.inf
        for w in range(n_workers):
            tokens = _uncached(prompts[r], overlaps[r, w], scalars[S_BLOCK])
            least = min(least, _prefill_ms(tokens, table, w))
        if waited_ms[r] > OVERDUE_WAITS * scalars[S_MEAN_WAIT_MS]:
            work[r] = -1e12 - waited_ms[r]
        elif least > GIANT_PREFILLS * scalars[S_MEAN_PREFILL_MS]:
            work[r] = -least
        else:
            work[r] = least
    # Insertion sort: stable, few requests, and no allocation.
    for r in range(n_requests):
        place = r
        while place > 0 and work[order[place - 1]] > work[r]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = r


@kernel(
    "void(float64[::1], float64[::1], uint64[::1], int32[:, ::1], int64[::1], float64[::1],"
    " float64[:, ::1], float64[::1], int64[::1], int64[::1], float64[::1], float64[:, ::1],"
    " float64[:, ::1], float64[:, ::1], float64[:, ::1])"
)
def plan(
    prompts: Floats,
    waited_ms: Floats,
    draws: Keys,
    overlaps: Runs,
    longest: Numbers,
    credits: Floats,
    table: Floats,
    scalars: Floats,
    order: Numbers,
    chosen: Numbers,
    caps: Floats,
    backlogs: Floats,
    flights: Floats,
    balances: Floats,
    room: Floats,
) -> None:
    """Binds those waiting requests whose best worker can start them now.

    For R requests and W workers: `prompts` (tokens), `waited_ms`, `draws`: (R,); `overlaps`
    (blocks): (R, W); `longest` (R,): blocks of the longest prefix that any worker really holds,
    and `credits` (R,): milliseconds that one more copy of it may cost.
    Results: `order` (R,): requests in the order in which they were looked at; `chosen` (R,): the
    worker, -1: it waits; as they stood then `caps` (R,), `backlogs` and `flights` (R, W); and
    `balances` (3, R): milliseconds lost for want of a copy, spent on one, and until the first token
    on the best worker. `table` changes with what is given. `room`: (3, max(R, W, N_TERMS)).

    Shortest uncached work first; those that wait for a worker hold it against those behind them.
    """
    n_requests, n_workers = overlaps.shape
    costs, one = room[1], room[2]
    _order(prompts, waited_ms, overlaps, table, scalars, order, room[0])
    mean_fill = _mean_fill(table)
    for place in range(n_requests):
        r = order[place]
        cap = _cap(table, scalars)
        caps[r] = cap
        least = np.inf
        for w in range(n_workers):
            costs[w], held = _copied_cost(
                prompts[r],
                overlaps[r, w],
                longest[r],
                credits[r],
                w,
                table,
                scalars,
                cap,
                mean_fill,
                one,
            )
            least = min(least, held)
            backlogs[r, w] = table[BACKLOG_MS, w]
            flights[r, w] = table[IN_FLIGHT, w]
        best = _cheapest(costs[:n_workers], draws[r])
        _copied_cost(
            prompts[r],
            overlaps[r, best],
            longest[r],
            credits[r],
            best,
            table,
            scalars,
            cap,
            mean_fill,
            one,
        )
        balances[1, r] = -one[REPLICA]
        balances[0, r] = costs[best] - least if balances[1, r] == 0.0 else 0.0
        balances[2, r] = one[QUEUE] + one[PREFILL] + one[STEPS]
        base = table[PREFILL_BASE_MS, best]
        chosen[r] = -1
        # SINCE_NS of a worker that got a prompt here is negative: only small ones may join it.
        if table[SINCE_NS, best] < 0.0:
            is_free = one[PREFILL] - base <= JOIN_PASSES * base
        else:
            is_free = _can_start(table, scalars, best)
        if is_free:
            chosen[r] = best
            table[IN_FLIGHT, best] += 1.0
            table[SINCE_NS, best] = -1.0
        # Those behind it see what it takes there, given or held.
        if table[BACKLOG_MS, best] <= 0.0:
            table[BACKLOG_MS, best] = table[PASS_MS, best]
        table[BACKLOG_MS, best] += one[PREFILL]
