"""Kernels of the radix policy: what each worker would cost a request, and who goes where now.

Costs are milliseconds: the request's expected time to first token on a worker, and the harm done
there. `plan` looks at all waiting requests together and binds late: a request waits at the router
until the worker that suits it best can start it. Pure arithmetic on arrays; importing this module
compiles or loads from the cache (`radix.jit`).
"""

from typing import Any, Final, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers, Runs
from radixroute.radix.jit import helper, kernel
from radixroute.router.policy.columns_layout import (
    BACKLOG_MS,
    IN_FLIGHT,
    MS_PER_DECODE,
    MS_PER_PREFILL,
    PREFILL_BASE_MS,
    RECENT_PREFILL,
    SEATS,
    STEP_LEFT_MS,
)
from radixroute.router.policy.forecast_kernels import (
    can_start,
    cheapest,
    decode_step_ms,
    prefill_ms,
    steps_of,
    uncached,
)
from radixroute.router.policy.radix.weights import Weights

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

types: Any = numba.types  # its stubs do not know what its types take

# Terms of a cost.
QUEUE: Final = 0
PREFILL: Final = 1
STEPS: Final = 2
COMPUTE: Final = 3
SLOW_DOWN: Final = 4
TURNOVER: Final = 5
REPLICA: Final = 6
N_TERMS: Final = 7

# Who goes first: classes of an order.
OVERDUE: Final = 0
GIANT: Final = 1
SHORTEST: Final = 2


class Fleet(NamedTuple):
    """What one request sees of all workers together."""

    mean_recent: float  # prompt tokens given lately
    answer: float  # what a millisecond of others' answers is worth


class Usual(NamedTuple):
    """What all requests and workers of one question share."""

    block_size: float  # tokens
    lead_ms: float  # a worker is free for the next prompt so long before it is done
    mean_wait_ms: float
    mean_prefill_ms: float
    compute: float  # what a millisecond of computing costs those who come next
    weights: Weights


class Prompts(NamedTuple):
    """Requests that wait; R of them. `plan` changes what one sees of those given before it."""

    tokens: Floats  # (R,) prompt tokens
    output_tokens: Floats  # (R,) expected
    waited_ms: Floats  # (R,)
    draws: Keys  # (R,) random bits, for ties
    overlap_blocks: Runs  # (R, W) leading blocks each worker holds or will soon
    longest_blocks: Numbers  # (R,) of the longest prefix that any worker really holds
    replica_ms: Floats  # (R,) what one more copy of that may cost
    followers: Floats  # (R,) that each brings to its worker
    # Block keys of one after the other, r's at ends[r] to ends[r + 1]; none of whose first block
    # is that of nobody else.
    keys: Keys
    ends: Numbers  # (R + 1,)


class Placements(NamedTuple):
    """What `plan` answers, by request; the numbers as they stood when it was looked at."""

    order: Numbers  # (R,) requests in the order in which they were looked at
    best: Numbers  # (R,) the worker that costs least
    is_bound: Flags  # (R,) it goes there now; else it waits
    backlog_ms: Floats  # (R, W)
    in_flight: Floats  # (R, W)
    lost_ms: Floats  # (R,) for want of one more copy of its prefix
    spent_ms: Floats  # (R,) on one more copy
    ttft_ms: Floats  # (R,) dispatch to first token, on the best worker
    prefill_ms: Floats  # (R,) of that, computing its own prompt


class Scratch(NamedTuple):
    """What `plan` works in; nothing in it counts before or after."""

    rows: Floats  # (4, max(R, W, N_TERMS))
    was_given: Flags  # (W,) a prompt of this plan


_FLOATS, _INTS, _FLAGS = types.float64[::1], types.int64[::1], types.boolean[::1]
_TABLE = types.float64[:, ::1]
_WEIGHTS = types.NamedUniTuple(types.float64, len(Weights._fields), Weights)
_KEYS = types.uint64[::1]
_USUAL = types.NamedTuple((*[types.float64] * 5, _WEIGHTS), Usual)
_PROMPTS = types.NamedTuple(
    (*[_FLOATS] * 3, _KEYS, types.int32[:, ::1], _INTS, _FLOATS, _FLOATS, _KEYS, _INTS), Prompts
)
_PLACEMENTS = types.NamedTuple((_INTS, _INTS, _FLAGS, _TABLE, _TABLE, *[_FLOATS] * 4), Placements)
_SCRATCH = types.NamedTuple((_TABLE, _FLAGS), Scratch)


@helper
def _cost(
    prompt: float,
    output: float,
    overlap: int,
    followers: float,
    w: int,
    table: Floats,
    usual: Usual,
    fleet: Fleet,
    terms: Floats,
) -> float:
    """Fills all `terms` but REPLICA for one request on one worker; their sum."""
    tokens = uncached(prompt, overlap, usual.block_size)
    prefill = prefill_ms(tokens, table, w)
    weights = usual.weights
    terms[QUEUE] = table[BACKLOG_MS, w] if table[BACKLOG_MS, w] > 0.0 else table[STEP_LEFT_MS, w]
    terms[PREFILL] = prefill
    terms[STEPS] = steps_of(tokens, table, w) * decode_step_ms(table, w)
    terms[COMPUTE] = usual.compute * prefill
    # Whoever is there waits for our prompt, and then each of us takes longer for each token until
    # one has ended, and so it will be with those that follow us here.
    longer = table[MS_PER_DECODE, w] * output
    lost = fleet.answer * (prefill + longer)
    lost += weights.answers_to_come * followers * (usual.mean_prefill_ms + longer)
    terms[SLOW_DOWN] = table[IN_FLIGHT, w] * lost
    pushed = min(tokens + output, weights.turnover_tokens) * table[MS_PER_PREFILL, w]
    ratio = table[RECENT_PREFILL, w] / fleet.mean_recent if fleet.mean_recent > 0.0 else 0.0
    terms[TURNOVER] = weights.turnover * pushed * ratio
    total = 0.0
    for i in range(REPLICA):
        total += terms[i]
    return total


@helper
def _copied_cost(
    prompt: float,
    output: float,
    overlap: int,
    longest: int,
    credit: float,
    followers: float,
    w: int,
    table: Floats,
    usual: Usual,
    fleet: Fleet,
    terms: Floats,
) -> tuple[float, float]:
    """Fills `terms` (N_TERMS,); their sum, and what it would be if the worker held `longest`
    blocks, the most that any holds. The difference is the cost of one more copy: REPLICA pays."""
    # What is expected may reach further than what anybody holds.
    most = max(overlap, longest)
    held = _cost(prompt, output, most, followers, w, table, usual, fleet, terms)
    terms[REPLICA] = 0.0
    if overlap == most:
        return held, held
    total = _cost(prompt, output, overlap, followers, w, table, usual, fleet, terms)
    terms[REPLICA] = -min(credit, max(0.0, total - held))
    return total + terms[REPLICA], held


@helper
def _fleet(table: Floats, weights: Weights) -> Fleet:
    """Requests given at random vary between workers by as much as they are many (Poisson), and that
    is gone before an answer ends. The share of the variance above that is no chance: a crowd."""
    n = table.shape[1]
    recent, requests, squares = 0.0, 0.0, 0.0
    for w in range(n):
        recent += table[RECENT_PREFILL, w]
        requests += table[IN_FLIGHT, w]
        squares += table[IN_FLIGHT, w] * table[IN_FLIGHT, w]
    mean = requests / n
    variance = squares / n - mean * mean
    crowding = 1.0 - mean / variance if variance > mean else 0.0
    return Fleet(recent / n, weights.answer + weights.answers_to_come * crowding)


@kernel(
    types.float64(
        types.float64,
        types.float64,
        types.Array(types.int32, 1, "C", readonly=True),
        types.int64,
        types.Array(types.float64, 2, "C", readonly=True),
        _USUAL,
        types.float64,
        types.float64,
        _TABLE,
        _FLOATS,
    )
)
def score(
    prompt: float,
    output: float,
    overlap_blocks: Runs,
    longest: int,
    table: Floats,
    usual: Usual,
    replica_ms: float,
    followers: float,
    terms: Floats,
    one: Floats,
) -> float:
    """Terms of one request on every worker, shape (N_TERMS, workers); `one`: scratch (N_TERMS,).

    Returns the lowest cost if all held the `longest` blocks that any holds.
    """
    fleet, least = _fleet(table, usual.weights), np.inf
    for w in range(table.shape[1]):
        _, held = _copied_cost(
            prompt,
            output,
            overlap_blocks[w],
            longest,
            replica_ms,
            followers,
            w,
            table,
            usual,
            fleet,
            one,
        )
        least = min(least, held)
        for i in range(N_TERMS):
            terms[i, w] = one[i]
    return least


@helper
def _order(prompts: Prompts, table: Floats, usual: Usual, order: Numbers, scratch: Scratch) -> None:
    """Overdue ones, giants, then by what they would cost where they cost least."""
    work, goes_as, weights = scratch.rows[0], scratch.rows[1], usual.weights
    n_requests, n_workers = prompts.overlap_blocks.shape
    for r in range(n_requests):
        least = np.inf
        for w in range(n_workers):
            tokens = uncached(prompts.tokens[r], prompts.overlap_blocks[r, w], usual.block_size)
            least = min(least, prefill_ms(tokens, table, w))
        if prompts.waited_ms[r] > weights.overdue_waits * usual.mean_wait_ms:
            goes_as[r], work[r] = OVERDUE, -prompts.waited_ms[r]
        elif least > weights.giant_prefills * usual.mean_prefill_ms:
            goes_as[r], work[r] = GIANT, -least
        else:
            goes_as[r], work[r] = SHORTEST, least
    # Insertion sort: stable, few requests, and no allocation.
    for r in range(n_requests):
        place = r
        while place > 0:
            before = order[place - 1]
            if goes_as[before] < goes_as[r]:
                break
            if goes_as[before] == goes_as[r] and work[before] <= work[r]:
                break
            order[place] = before
            place -= 1
        order[place] = r


@helper
def _common(keys: Keys, a: int, a_end: int, b: int, b_end: int) -> int:
    """Leading blocks that two prompts share. Keys are chained: the same key at one place tells of
    all before it, so halving finds the last one."""
    low, high = 0, min(a_end - a, b_end - b)
    while low < high:
        middle = (low + high + 1) // 2
        if keys[a + middle - 1] == keys[b + middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


@helper
def _tell(prompts: Prompts, behind: Numbers, r: int, w: int, spent: float) -> None:
    """Those behind `r`, which goes to `w` now: what it computes there they need not, and what it
    spends of an account they cannot."""
    keys, ends = prompts.keys, prompts.ends
    for other in behind:
        n_common = _common(keys, ends[r], ends[r + 1], ends[other], ends[other + 1])
        if n_common == 0:
            continue
        prompts.overlap_blocks[other, w] = max(prompts.overlap_blocks[other, w], n_common)
        longest = prompts.longest_blocks[other]
        if spent > 0.0 and longest == prompts.longest_blocks[r] and longest <= n_common:
            prompts.replica_ms[other] = max(0.0, prompts.replica_ms[other] - spent)


@kernel(types.void(_PROMPTS, _TABLE, _USUAL, _PLACEMENTS, _SCRATCH))
def plan(
    prompts: Prompts, table: Floats, usual: Usual, placed: Placements, scratch: Scratch
) -> None:
    """Binds those waiting requests whose best worker can start them now; fills `placed`.

    `table` and `prompts` change with what is given. Shortest uncached work first; those that wait
    for a worker hold it against those behind them.
    """
    n_requests, n_workers = prompts.overlap_blocks.shape
    costs, one = scratch.rows[2], scratch.rows[3]
    _order(prompts, table, usual, placed.order, scratch)
    for w in range(n_workers):
        scratch.was_given[w] = False
    for place in range(n_requests):
        r = placed.order[place]
        fleet, least = _fleet(table, usual.weights), np.inf
        for w in range(n_workers):
            costs[w], held = _copied_cost(
                prompts.tokens[r],
                prompts.output_tokens[r],
                prompts.overlap_blocks[r, w],
                prompts.longest_blocks[r],
                prompts.replica_ms[r],
                prompts.followers[r],
                w,
                table,
                usual,
                fleet,
                one,
            )
            least = min(least, held)
            placed.backlog_ms[r, w] = table[BACKLOG_MS, w]
            placed.in_flight[r, w] = table[IN_FLIGHT, w]
        best = cheapest(costs[:n_workers], prompts.draws[r])
        _copied_cost(
            prompts.tokens[r],
            prompts.output_tokens[r],
            prompts.overlap_blocks[r, best],
            prompts.longest_blocks[r],
            prompts.replica_ms[r],
            prompts.followers[r],
            best,
            table,
            usual,
            fleet,
            one,
        )
        spent = -one[REPLICA]
        placed.spent_ms[r] = spent
        placed.lost_ms[r] = costs[best] - least if spent == 0.0 else 0.0
        placed.ttft_ms[r] = one[QUEUE] + one[PREFILL] + one[STEPS]
        placed.prefill_ms[r] = one[PREFILL]
        placed.best[r] = best
        base = table[PREFILL_BASE_MS, best]
        if scratch.was_given[best]:  # only small ones join what was given just now
            has_seat = table[IN_FLIGHT, best] < table[SEATS, best]
            is_bound = has_seat and one[PREFILL] - base <= usual.weights.join_steps * base
        else:
            is_bound = can_start(table, usual.lead_ms, best)
        placed.is_bound[r] = is_bound
        if is_bound:
            table[IN_FLIGHT, best] += 1.0
            scratch.was_given[best] = True
            _tell(prompts, placed.order[place + 1 :], r, best, spent)
        # Those behind it see what it takes there, given or held.
        if table[BACKLOG_MS, best] <= 0.0:
            table[BACKLOG_MS, best] = table[STEP_LEFT_MS, best]
        table[BACKLOG_MS, best] += one[PREFILL]
