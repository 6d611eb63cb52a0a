"""Capacity: where a trace's work takes as long as the trace, and what runs at that load do."""

import numpy as np
import pytest

from radixroute.replay.analysis.bounds import pooled_lru, pooled_lru_tokens
from radixroute.replay.analysis.capacity import work_of
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import prefixes
from tests.replay.runs import BLOCK, make_trace

# 2 ms a prompt, and 1 ms a prompt token; 3 ms a step of decoding, whoever is in it.
TIMING = Timing("test", a1=1.0, a0=2.0, d0=3.0)
SHAPE = FleetShape(2, kv_blocks=64, block_size=BLOCK, max_num_batched_tokens=16)


def test_the_work_of_prompts_is_what_their_uncached_tokens_take():
    prompts = [([0, 1], 8), ([0, 2, 3, 4, 5], 20), ([0, 1], 7)]
    trace = make_trace(prompts, arrival_ns=[0, 10**9, 3 * 10**9])
    work = work_of(trace, prefixes(trace, BLOCK), SHAPE, TIMING)
    # 8 tokens; 16 in one step; 3 behind one cached block. All of one token an answer.
    assert work.prefill_s == pytest.approx((8 + 2 + 16 + 2 + 3 + 2) / 1e3)
    assert work.decode_s == 0.0
    assert work.reuse == pytest.approx(8 / 35)
    assert work.span_s == 3.0
    assert work.capacity == pytest.approx(2 * 3.0 / work.prefill_s)
    assert work.speed(0.5) == pytest.approx(0.5 * work.capacity)


def test_a_prompt_too_long_for_a_step_takes_several():
    trace = make_trace([([0] * 10, 40), ([1], 1)], arrival_ns=[0, 10**9])
    work = work_of(trace, prefixes(trace, BLOCK), SHAPE, TIMING)
    assert work.prefill_s == pytest.approx((40 + 3 * 2 + 1 + 2) / 1e3)


def test_answers_are_made_beside_each_other_as_prompts_come():
    trace = make_trace([([0], 4), ([1], 4)], outputs=[9, 9], arrival_ns=[0, 10**9])
    work = work_of(trace, prefixes(trace, BLOCK), SHAPE, TIMING)
    # 16 tokens after the first ones, 2 steps of prefill: 8 at a time.
    assert work.decode_s == pytest.approx(2 * 3 / 1e3)
    alone = work_of(trace, prefixes(trace, BLOCK), FleetShape(2, 64, BLOCK, 16, 1), TIMING)
    assert alone.decode_s == pytest.approx(16 * 3 / 1e3)


def test_a_trace_without_time_has_no_load():
    trace = make_trace([([0], 4), ([1], 4)], arrival_ns=[5, 5])
    with pytest.raises(InvalidShape, match="spread"):
        work_of(trace, prefixes(trace, BLOCK), SHAPE, TIMING)


def test_tokens_by_request_are_those_of_the_bound():
    trace = cut(synthesize("chats", 1), 300)
    numbered = prefixes(trace, 64)
    for blocks in (200, 2000):
        served = pooled_lru_tokens(trace, numbered, blocks)
        assert served.sum() == pooled_lru(trace, numbered, blocks).tokens
        assert (served < trace.input_tokens).all()


def test_queues_grow_above_the_capacity_and_not_far_below():
    """Prompts that share nothing, whose capacity no cache makes better or worse."""
    rng = np.random.default_rng(3)
    n = 600
    tokens = rng.integers(1_000, 6_000, n)
    ids = np.split(np.arange((-(-tokens // BLOCK)).sum()), np.cumsum(-(-tokens // BLOCK))[:-1])
    arrival_ns = np.cumsum(rng.exponential(0.2e9, n)).astype(np.int64)
    trace = make_trace(
        [(i.tolist(), int(t)) for i, t in zip(ids, tokens, strict=True)], [20] * n, arrival_ns
    )
    shape = FleetShape(4, 1 << 14, BLOCK)
    numbered = prefixes(trace, BLOCK)
    work = work_of(trace, numbered, shape, Scenario(shape).timing)

    def behind_s(load):
        run = simulate(trace, "radix", Scenario(shape, speed=work.speed(load)), numbered)
        return (run.finish_ns.max() - run.arrival_ns.max()) / 1e9

    assert behind_s(0.9) < 1.0
    assert behind_s(1.5) > 3.0
