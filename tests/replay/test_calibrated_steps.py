"""What a calibrated timing charges in the simulator: its formula, written out by hand."""

import numpy as np

from radixroute.replay.analysis.capacity import work_of
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.trace import prefixes
from tests.replay.fleets import new_trace

TIMING = Timing(
    "calibrated", a1=0.5, a_pair=0.01, a_each=3.0, d1=20.0, d_each=2.0, kv_tokens=400, every=10.0
)
SHAPE = FleetShape(workers=1, kv_blocks=100, block_size=4, max_num_batched_tokens=16)
MS = 1_000_000


def prompt_ms(*chunks):
    """Of chunks as (tokens, tokens before them) in one step."""
    return sum(
        3.0 + sum(0.5 + 0.01 * (before + place + 1) for place in range(n)) for n, before in chunks
    )


def decode_ms(*contexts):
    return sum(2.0 + 20.0 * context / 400 for context in contexts)


def run(trace, conditions=None):
    conditions = Conditions() if conditions is None else conditions
    return simulate(trace, "round_robin", Scenario(SHAPE, TIMING, conditions=conditions))


def test_a_prompt_of_several_steps_pays_for_what_they_read():
    trace = new_trace(4, [0], [40], [1], [0, 10], [*range(10)])
    first_ms = run(trace).ttft_ms[0]
    assert first_ms == round(
        3 * 10.0 + prompt_ms((16, 0)) + prompt_ms((16, 16)) + prompt_ms((8, 32)), 6
    )


def test_cached_tokens_are_read_and_not_computed():
    # Eight blocks, of which the second prompt shares six; it comes when the first has ended.
    trace = new_trace(4, [0, 10**9], [16, 32], [1, 1], [0, 4, 12], [*range(4), *range(8)])
    result = run(trace)
    assert result.cached_tokens.tolist() == [0, 16]
    assert result.ttft_ms[1] == round(10.0 + prompt_ms((16, 16)), 6)


def test_a_step_of_both_pays_once_for_what_every_step_takes():
    trace = new_trace(4, [0, 1], [6, 10], [3, 1], [0, 2, 5], [0, 1, 7, 8, 9])
    result = run(trace)
    alone_ms = 10.0 + prompt_ms((6, 0))
    both_ms = 10.0 + prompt_ms((10, 0)) + decode_ms(7)
    assert result.first_ns[0] == round(alone_ms * MS)
    assert result.first_ns[1] == round(alone_ms * MS) + round(both_ms * MS)
    assert result.finish_ns[0] == result.first_ns[1] + round((10.0 + decode_ms(8)) * MS)


def test_two_prompts_of_one_step_read_their_own_tokens_only():
    trace = new_trace(4, [0, 0], [8, 6], [1, 1], [0, 2, 4], [0, 1, 7, 8])
    assert run(trace).ttft_ms.tolist() == [round(10.0 + prompt_ms((8, 0), (6, 0)), 6)] * 2


def test_steps_that_follow_alike_take_what_each_alone_would():
    """Planned as one (`decode_fast_forward`)."""
    trace = new_trace(4, [0], [5], [30], [0, 2], [0, 1])
    result = run(trace)
    steps_ns = [round((10.0 + decode_ms(5 + n)) * MS) for n in range(1, 30)]
    assert result.finish_ns[0] - result.first_ns[0] == sum(steps_ns)


def test_what_clients_wait_beside_moves_their_tokens_and_what_follows_them():
    trace = new_trace(4, [0, 5 * MS], [6, 10], [3, 1], [0, 2, 5], [0, 1, 7, 8, 9])
    trace.after[1] = 0
    near, far = run(trace), run(trace, Conditions(client_ms=7.0))
    assert (far.ttft_ms - near.ttft_ms).tolist() == [7.0, 7.0]
    assert far.arrival_ns.tolist() == [0, near.arrival_ns[1] + 7 * MS]
    assert far.worker.tolist() == near.worker.tolist()


def test_the_capacity_of_a_trace_counts_what_chunks_read():
    trace = new_trace(4, [0, 10**9], [40, 24], [1, 1], [0, 10, 16], [*range(16)])
    chunks = [(16, 0), (16, 16), (8, 32), (16, 0), (8, 16)]
    work = work_of(trace, prefixes(trace, 4), SHAPE, TIMING)
    assert np.isclose(1e3 * work.prefill_s, sum(10.0 + prompt_ms(one) for one in chunks))
