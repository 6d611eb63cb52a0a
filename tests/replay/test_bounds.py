"""Bounds against exhaustive search, against each other, and against runs of the simulated fleet."""

from collections import OrderedDict
from itertools import combinations, permutations

import numpy as np
import pytest

from radixroute.replay.analysis.bounds import (
    DEFINITIONS,
    bounds,
    infinite,
    per_worker_clairvoyant,
    pooled_belady,
    pooled_belady_of,
    pooled_lru,
)
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.traces.trace import prefixes
from tests.replay.conversation import conversation
from tests.replay.runs import BLOCK, drive, make_trace, random_trace, result

# Not shipped: it lies beside the checkout, or the test that needs it is skipped.


def paths_of(trace, numbered):
    """(nodes, how many of them the prompt can reuse) of each request."""
    tokens, block = trace.input_tokens.tolist(), numbered.block_size
    return [(numbered.of(r).tolist(), (tokens[r] - 1) // block) for r in range(len(trace))]


def leading(path, n_reusable, held):
    hits = 0
    while hits < n_reusable and path[hits] in held:
        hits += 1
    return hits


def best_order(paths):
    """The most that one cache without a limit serves, over all orders."""
    best = 0
    for order in permutations(paths):
        held: set[int] = set()
        hits = 0
        for path, n_reusable in order:
            hits += leading(path, n_reusable, held)
            held |= set(path)
        best = max(best, hits)
    return best


def best_contents(paths, capacity):
    """The most hits over all choices of what to keep after each request: any set that fits."""
    states: dict[frozenset[int], int] = {frozenset(): 0}
    for path, n_reusable in paths:
        later: dict[frozenset[int], int] = {}
        for held, hits in states.items():
            now = hits + leading(path, n_reusable, held)
            offered = held | set(path)
            # Keeping less than fits can never help.
            for kept in combinations(sorted(offered), min(capacity, len(offered))):
                key = frozenset(kept)
                later[key] = max(later.get(key, 0), now)
        states = later
    return max(states.values())


def best_intervals(run, numbered, capacity):
    """The largest set of intervals that fits, by trying all: the definition, word for word.

    Where several prompts are admitted at one time the shorter one comes first.
    """
    paths = paths_of(run.trace, numbered)
    tokens = run.trace.input_tokens
    order = sorted(range(len(paths)), key=lambda r: (run.admitted_ns[r], tokens[r]))
    free, intervals = 0, []
    for place, request in enumerate(order):
        path, n_reusable = paths[request]
        for node in path[:n_reusable]:
            ends = [int(run.finish_ns[r]) for r in order[:place] if node in paths[r][0]]
            begin, end = max(ends, default=None), int(run.admitted_ns[request])
            if begin is not None and begin < end:
                intervals.append((begin, end))
            elif begin is not None:
                free += 1
    for n in range(len(intervals), -1, -1):
        for chosen in combinations(intervals, n):
            if all(sum(b <= t < e for b, e in chosen) <= capacity for t, _ in chosen):
                return free + n
    raise AssertionError


def lru(paths, capacity, outputs):
    held: OrderedDict[object, None] = OrderedDict()
    hits = 0
    for request, (path, n_reusable) in enumerate(paths):
        hits += leading(path, n_reusable, held)
        mine = [*path, *((request, i) for i in range(outputs[request]))]
        for node in reversed(mine):
            held[node] = None
            held.move_to_end(node)
        while len(held) > capacity:
            held.popitem(last=False)
    return hits


def greedy_workers(paths, workers, capacity):
    """`per_worker_clairvoyant` from its definition, with sets."""

    def next_use(node, after):
        for r in range(after + 1, len(paths)):
            path, n_reusable = paths[r]
            if node in path[:n_reusable]:
                return r, path.index(node)
        return None

    held: list[set[int]] = [set() for _ in range(workers)]
    hits = 0
    for request, (path, n_reusable) in enumerate(paths):
        useful = [node for node in path if next_use(node, request)]
        fresh = sum(not any(node in cache for cache in held) for node in useful)

        def rank(w, path=path, n_reusable=n_reusable, fresh=fresh, before=request - 1):
            room = capacity - len(held[w])
            value = leading(path, n_reusable, held[w]) + min(fresh, room)
            last = max((next_use(node, before) for node in held[w]), default=(0, 0))
            return value, room, last if room == 0 else (0, 0), -w

        chosen = max(range(workers), key=rank)
        hits += leading(path, n_reusable, held[chosen])
        held[chosen] |= set(path)
        for cache in held:
            cache &= {node for node in cache if next_use(node, request)}
        ranked = sorted(held[chosen], key=lambda node: next_use(node, request))
        held[chosen] = set(ranked[:capacity])
    return hits


@pytest.mark.parametrize("seed", range(40))
def test_infinite_is_the_best_of_all_orders(seed):
    trace = random_trace(np.random.default_rng(seed), 6, longest=4)
    numbered = prefixes(trace, BLOCK)
    assert infinite(trace, numbered).tokens == best_order(paths_of(trace, numbered)) * BLOCK


@pytest.mark.parametrize("seed", range(60))
def test_pooled_belady_is_the_best_of_all_contents(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 8, longest=4)
    numbered = prefixes(trace, BLOCK)
    for capacity in (1, 2, 3, 5):
        best = best_contents(paths_of(trace, numbered), capacity)
        assert pooled_belady(trace, numbered, capacity).tokens == best * BLOCK


@pytest.mark.parametrize("seed", range(60))
def test_pooled_belady_of_a_run_is_the_largest_set_of_intervals(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 7, longest=3)
    numbered = prefixes(trace, BLOCK)
    admitted_ns = rng.integers(0, 12, len(trace))
    finish_ns = admitted_ns + rng.integers(1, 6, len(trace))
    run = result(trace, admitted_ns=admitted_ns, finish_ns=finish_ns)
    for capacity in (1, 2, 4):
        best = best_intervals(run, numbered, capacity)
        assert pooled_belady_of(run, numbered, capacity).tokens == best * BLOCK


@pytest.mark.parametrize("seed", range(60))
def test_references_do_what_they_are_defined_to_do(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 25)
    numbered = prefixes(trace, BLOCK)
    paths = paths_of(trace, numbered)
    held = (trace.input_tokens + trace.output_tokens - 1) // BLOCK
    outputs = [int(n) - len(path) for n, (path, _) in zip(held, paths, strict=True)]
    for capacity in (1, 3, 8, 20):
        found = pooled_lru(trace, numbered, capacity)
        assert found.tokens == lru(paths, capacity, outputs) * BLOCK
        bare = pooled_lru(trace, numbered, capacity, has_outputs=False)
        assert bare.tokens == lru(paths, capacity, [0] * len(paths)) * BLOCK
        for workers in (1, 2, 3):
            greedy = per_worker_clairvoyant(trace, numbered, workers, capacity)
            assert greedy.tokens == greedy_workers(paths, workers, capacity) * BLOCK


@pytest.mark.parametrize("seed", range(20))
def test_a_heap_that_is_full_of_past_uses_keeps_those_to_come(seed):
    # Many copies of few blocks: uses are noted far more often than there are places.
    trace = random_trace(np.random.default_rng(seed), 150, longest=3)
    numbered = prefixes(trace, BLOCK)
    greedy = per_worker_clairvoyant(trace, numbered, 3, 2)
    assert greedy.tokens == greedy_workers(paths_of(trace, numbered), 3, 2) * BLOCK


@pytest.mark.parametrize("seed", range(40))
def test_bounds_stand_in_their_order(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 200, longest=8)
    numbered = prefixes(trace, BLOCK // 2)
    workers, kv_blocks = int(rng.integers(1, 70)), int(rng.integers(1, 8))
    found = bounds(trace, numbered, workers, kv_blocks)
    belady = found["pooled_belady"].tokens
    assert found["infinite"].tokens >= belady
    assert belady >= found["pooled_lru"].tokens
    assert belady >= found["per_worker_clairvoyant"].tokens
    assert {*found, "pooled_belady_of_run"} == set(DEFINITIONS)
    assert all(name == bound.name for name, bound in found.items())


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("held_back_ns", [0, 10**9])
def test_no_run_reaches_more_than_its_bound(seed, held_back_ns):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 120, longest=8, gap_ns=20_000_000)
    numbered = prefixes(trace, BLOCK)
    shape = FleetShape(
        workers=int(rng.integers(1, 4)),
        kv_blocks=int(rng.integers(11, 30)),
        block_size=BLOCK,
        max_num_batched_tokens=int(rng.integers(8, 64)),
        max_num_seqs=4,
    )
    run = drive(trace, numbered, shape, rng, held_back_ns)
    limit = pooled_belady_of(run, numbered, shape.workers * shape.kv_blocks)
    assert infinite(trace, numbered).tokens >= limit.tokens >= run.cached_tokens.sum() > 0
    assert 0 < limit.reached_by(run) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_a_fleet_that_serves_one_after_another_stays_below_the_bound_of_the_trace(seed):
    rng = np.random.default_rng(seed)
    trace = random_trace(rng, 60, longest=8)
    trace.arrival_ns[:] = np.arange(len(trace)) * 10**9
    numbered = prefixes(trace, BLOCK)
    shape = FleetShape(workers=2, kv_blocks=12, block_size=BLOCK)
    run = drive(trace, numbered, shape, rng)
    assert pooled_belady(trace, numbered, 24).tokens >= run.cached_tokens.sum() > 0
    order_free = pooled_belady_of(run, numbered, 24).tokens
    assert order_free == pooled_belady(trace, numbered, 24).tokens


def test_another_order_may_beat_the_bound_of_the_trace_but_not_its_own():
    # A B A B with room for one block of both: together they would reuse both, in turn only one.
    prompts = [([which, which], BLOCK + 1) for which in (1, 2, 1, 2)]
    trace = make_trace(prompts)
    numbered = prefixes(trace, BLOCK)
    run = result(
        trace,
        admitted_ns=[0, 20, 10, 30],
        finish_ns=[5, 25, 15, 35],
        cached_tokens=[0, 0, BLOCK, BLOCK],
    )
    in_turn = pooled_belady(trace, numbered, 1)
    assert (in_turn.tokens, in_turn.reached_by(run)) == (BLOCK, 2.0)
    own = pooled_belady_of(run, numbered, 1)
    assert (own.tokens, own.reached_by(run)) == (2 * BLOCK, 1.0)


def test_a_block_is_free_of_charge_while_a_request_runs_on_it():
    trace = make_trace([([1, 1], BLOCK + 1), ([2, 2], BLOCK + 1)] * 2)
    numbered = prefixes(trace, BLOCK)
    apart = result(trace, admitted_ns=[0, 1, 20, 21], finish_ns=[10, 11, 30, 31])
    assert pooled_belady_of(apart, numbered, 1).tokens == BLOCK
    over = result(trace, admitted_ns=[0, 1, 10, 11], finish_ns=[10, 11, 30, 31])
    assert pooled_belady_of(over, numbered, 1).tokens == 2 * BLOCK


def test_requests_never_admitted_are_left_out_and_those_without_end_run_for_ever():
    trace = make_trace([([1, 1], BLOCK + 1)] * 3)
    numbered = prefixes(trace, BLOCK)
    run = result(trace, admitted_ns=[5, -1, 900], finish_ns=[-1, -1, -1], cached_tokens=[0, -1, 4])
    own = pooled_belady_of(run, numbered, 1)
    assert (own.tokens, own.reached_by(run)) == (BLOCK, 1.0)


def test_the_last_token_is_always_computed():
    trace = make_trace([([1, 2], 2 * BLOCK)] * 2)
    numbered = prefixes(trace, BLOCK)
    assert {b.tokens for b in bounds(trace, numbered, 2, 9).values()} == {BLOCK}


def test_no_requests_reach_nothing():
    trace = make_trace([])
    numbered = prefixes(trace, BLOCK)
    found = bounds(trace, numbered, 2, 9)
    assert {(b.tokens, b.fraction) for b in found.values()} == {(0, 0.0)}
    assert found["infinite"].reached_by(result(trace)) == 1.0


def test_no_places_are_refused():
    trace = make_trace([([1], 3)])
    with pytest.raises(InvalidShape, match="at least 1"):
        pooled_belady(trace, prefixes(trace, BLOCK), 0)
    with pytest.raises(InvalidShape, match="at least 1"):
        pooled_lru(trace, prefixes(trace, BLOCK), 0)
    with pytest.raises(InvalidShape, match="at least 1"):
        per_worker_clairvoyant(trace, prefixes(trace, BLOCK), 0, 5)


def test_the_conversation_trace_has_the_bounds_known_of_it():
    trace = conversation()
    found = bounds(trace, prefixes(trace, 64), 8, 16_384)
    # Apart from the first, no other source has them to four digits: a change of meaning shows.
    fractions = {name: round(bound.fraction, 4) for name, bound in found.items()}
    assert fractions == {
        "infinite": 0.3736,
        "pooled_belady": 0.3736,
        "pooled_lru": 0.2701,
        "per_worker_clairvoyant": 0.3736,
    }
