"""Sliding windows: blocks that leave one are given back, and what is advertised is there."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radixroute.radix.keys.scope import Scope
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.cache import PrefixCache
from radixroute.worker.engine.window import most_blocks_at_once, n_blocks_gone
from tests.worker.fakes import FakeRunner, Listener, alone, drain, ids, make_engine, request
from tests.worker.test_engine_property import play, workloads

SIZE = 4


def windowed(n_blocks, window, **settings):
    return make_engine(FakeRunner(n_blocks=n_blocks, window=window), **settings)


def prompt_of(n_tokens, seed=0):
    return np.random.default_rng(seed).integers(1, 90, n_tokens).tolist()


def test_a_sequence_many_times_the_pool_runs_in_it():
    engine, runner = windowed(n_blocks=7, window=8, max_num_batched_tokens=8)
    outputs, _ = drain(engine_with(engine, request("a", prompt_of(100), ignore_eos=True)))
    sampling = request("a", [1], ignore_eos=True).sampling
    assert ids(outputs["a"]) == alone(prompt_of(100), sampling, window=8)
    assert max(len(one.block_table) for plan in runner.plans for one in plan.slices) <= 5


def engine_with(engine, *requests):
    for one in requests:
        engine.submit(one, 0)
    return engine


def test_a_pool_that_a_window_and_a_step_do_not_fit_is_refused():
    engine, _ = windowed(n_blocks=4, window=8, max_num_batched_tokens=8)
    with pytest.raises(InvalidRequest, match="do not fit the KV pool"):
        engine.submit(request("a", prompt_of(100)), 0)


def test_what_left_the_window_stays_cached_while_there_is_room():
    engine, _ = windowed(n_blocks=64, window=8, max_num_batched_tokens=16)
    drain(engine_with(engine, request("a", prompt_of(60), max_tokens=1)))
    assert len(engine.resident_keys()) == 15
    longer = [*prompt_of(60), *prompt_of(8, seed=1)]
    _, steps = drain(engine_with(engine, request("b", longer, max_tokens=1)))
    [report] = [one.prompt for step in steps for one in step.outputs if one.prompt]
    assert report.cached_tokens == 60


def test_what_is_advertised_no_more_when_its_memory_was_taken():
    engine, _ = windowed(n_blocks=8, window=8, max_num_batched_tokens=8)
    listener = Listener()
    _, steps = drain(
        engine_with(engine, request("a", prompt_of(80), max_tokens=20, ignore_eos=True))
    )
    for step in steps:
        listener.hear(step.events)
    assert listener.keys == engine.resident_keys()
    # What is left of its beginning is a prefix: each of its blocks can be had.
    n_left = len(listener.keys)
    assert engine._cache.cached_tokens(np.array(prompt_of(80), np.uint32)) == n_left * SIZE < 32


def test_another_sequence_shares_what_a_running_one_computed_past_its_window():
    engine, _ = windowed(n_blocks=64, window=6, max_num_batched_tokens=64)
    engine.submit(request("a", prompt_of(40), max_tokens=20, ignore_eos=True), 0)
    for now in range(3):
        engine.step(now)
    _, steps = drain(engine_with(engine, request("b", [*prompt_of(40), 5], max_tokens=1)))
    [report] = [
        one.prompt for step in steps for one in step.outputs if one.prompt and one.request_id == "b"
    ]
    assert report.cached_tokens == 40
    engine.check()


TOKENS = np.arange(1, 41, dtype=np.uint32)


def slid(cache, n_tokens=32):
    """A lease that computed so many tokens, and whose first blocks left the window."""
    lease = cache.acquire(TOKENS)
    for end in range(SIZE * 2, n_tokens + 1, SIZE * 2):
        step(cache, lease, end)
    return lease


def step(cache, lease, end):
    cache.grow(lease, end)
    cache.publish(lease, TOKENS, end)
    cache.settle(lease)
    cache.slide(lease, end)
    cache.check()


def window_cache(n_blocks):
    return PrefixCache(n_blocks, SIZE, Scope("m", SIZE), window=8)


def test_blocks_held_loosely_are_not_available():
    cache = window_cache(10)
    lease = slid(cache)
    assert lease.n_gone == 6
    assert cache.n_available == 8  # 2 free, and 6 of 8 cached ones
    cache.release(lease)
    assert cache.n_available == 10
    cache.check()


def test_a_block_without_numbers_leaves_the_tree_though_nobody_pins_it():
    cache = window_cache(10)
    lease = slid(cache)
    cache.distrust(lease, {lease.table[1]}, TOKENS)
    cache.release(lease)
    cache.check()
    assert cache.cached_tokens(TOKENS) == 7 * SIZE


def test_of_a_cut_path_without_numbers_what_is_left_goes():
    cache = window_cache(10)
    lease = slid(cache)
    other = cache.acquire(np.arange(100, 140, dtype=np.uint32))
    cache.grow(other, 3 * SIZE)  # evicts the last two blocks, which frees nothing, and a third
    assert cache.cached_tokens(TOKENS) == 5 * SIZE
    cache.distrust(lease, {lease.table[0]}, TOKENS)
    for one in (lease, other):
        cache.release(one)
    cache.check()
    assert cache.cached_tokens(TOKENS) == 5 * SIZE


def replaced(cache):
    """A lease whose path was evicted, and another of the same tokens, in other blocks."""
    lease = slid(cache)
    other = cache.acquire(np.arange(100, 140, dtype=np.uint32))
    cache.grow(other, 12 * SIZE)
    cache.release(other)
    assert cache.cached_tokens(TOKENS) == 0
    again = slid(cache)
    assert cache.cached_tokens(TOKENS) == 8 * SIZE
    return lease, again


def test_of_others_blocks_nothing_is_taken_back():
    cache = window_cache(14)
    lease, again = replaced(cache)
    cache.distrust(lease, {lease.table[0]}, TOKENS)
    for one in (lease, again):
        cache.release(one)
    cache.check()
    assert cache.cached_tokens(TOKENS) == 8 * SIZE


def test_a_lease_whose_path_was_evicted_shares_no_more():
    cache = window_cache(14)
    lease, again = replaced(cache)
    step(cache, lease, 40)
    assert lease.is_cut
    assert cache.cached_tokens(TOKENS) == 8 * SIZE
    for one in (lease, again):
        cache.release(one)
    cache.check()
    assert cache.n_available == 14


@given(
    n_computed=st.integers(0, 200),
    size=st.integers(1, 20),
    window=st.integers(1, 60),
    n_step=st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_blocks_of_a_step_are_counted_as_they_lie(n_computed, size, window, n_step):
    end = n_computed + n_step
    first_seen = max(0, n_computed - window + 1)
    needed = {position // size for position in range(first_seen, end)}
    n_gone = n_blocks_gone(n_computed, size, window)
    assert n_gone == min(needed)
    assert len(needed) <= most_blocks_at_once(end, size, window, n_step)


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    jobs=workloads(),
    spare=st.integers(0, 12),
    budget=st.integers(1, 12),
    window=st.integers(1, 14),
    seqs=st.integers(1, 5),
    order=st.sampled_from(["youngest", "least_computed"]),
    failing=st.sets(st.integers(0, 60), max_size=1),
)
def test_in_the_smallest_pools_requests_end_as_they_would_alone(
    *, jobs, spare, budget, window, seqs, order, failing
):
    """Pools from what one step of one sequence needs; sequences of up to 50 tokens, 13 blocks."""
    n_blocks = max(2, most_blocks_at_once(200, SIZE, window, budget)) + spare
    engine, runner = windowed(
        n_blocks,
        window,
        max_num_batched_tokens=budget,
        max_num_seqs=seqs,
        preemption_order=order,
        watermark=0.0,
    )
    runner.fail_steps = failing
    outputs, wanted = play(engine, jobs, window)
    for name, (tokens, finish) in outputs.items():
        assert finish is not None, "a request never ended"
        if finish in (FinishReason.STOP, FinishReason.LENGTH):
            assert tokens == wanted[name]
    assert engine._cache.n_available == n_blocks
