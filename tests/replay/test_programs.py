"""Programs: requests that wait for several others, whose they are, and how long a program takes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from radixroute.replay.errors import BadTrace
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.lab import LabSettings, replay_all
from radixroute.replay.report.figures import run_figures
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.report.table import columns_of, table
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.draft import TraceDraft
from radixroute.replay.traces.programs.follow_ups import FollowUps
from radixroute.replay.traces.trace import sessions
from tests.replay.report_samples import ints, tiny_run, tiny_trace
from tests.replay.traces import assert_sound, awaited, random_trace, trace_of

# Two that come by themselves, one that waits for both, one for that, and one alone.
DIAMOND = [
    (0, 6, 1, [1, 2]),
    (5, 6, 1, [3, 4]),
    (7, 6, 1, [1, 5], [0, 1]),
    (8, 6, 1, [1, 6], 2),
    (900, 6, 1, [7, 8]),
]
SMALL = Agents(requests=60, parallel_share=0.5, programs_per_s=2.0, most_turns=12)
SHAPE = FleetShape(workers=3, kv_blocks=8192, block_size=64)


def test_a_request_waits_for_all_that_it_names():
    trace = trace_of(DIAMOND)
    assert_sound(trace)
    assert trace.after.tolist() == [-1, -1, 0, 2, -1]
    assert (trace.joins.tolist(), trace.joined) == ([[2, 1]], {2: [1]})
    follow_ups = FollowUps(trace)
    assert list(follow_ups.ended(1, 50)) == []
    assert list(follow_ups.ended(0, 30)) == [(2, 50)]  # the last end counts, told first or not
    assert follow_ups
    assert list(follow_ups.ended(2, 70)) == [(3, 70)]
    assert not follow_ups
    assert list(follow_ups.ended(4, 80)) == []


def test_those_that_wait_for_each_other_are_one_program_unless_the_trace_says_other():
    trace = trace_of(DIAMOND)
    assert trace.programs.tolist() == [0, 0, 0, 0, 1]
    assert sessions(trace).tolist() == [0, 0, 0, 0, -1]
    said = replace(trace, program=ints(9, 4, 9, 4, 4))
    assert said.programs.tolist() == [0, 1, 0, 1, 1]
    assert sessions(said).tolist() == [0, 1, 0, 1, 1]


def test_what_a_trace_has_not_is_not_in_its_digest():
    trace = trace_of([row[:4] for row in DIAMOND])
    assert trace.digest == "102cb9c23b6f303d"  # as before traces had joins and programs
    digests = {trace.digest, trace_of(DIAMOND).digest}
    digests |= {replace(trace, program=ints(*numbers)).digest for numbers in ([0] * 5, [1] * 5)}
    assert len(digests) == 4


@pytest.mark.parametrize("seed", range(10))
def test_programs_are_what_is_connected(seed):
    """Beside the slow way: neighbours of neighbours."""
    trace = random_trace(2 * seed)
    assert trace.program is None
    near = [{i} for i in range(len(trace))]
    pairs = [(i, int(j)) for i, j in enumerate(trace.after) if j >= 0]
    for i, j in [*pairs, *trace.joins.tolist()]:
        near[i].add(j)
        near[j].add(i)
    for _ in near:
        near = [set().union(*(near[j] for j in one)) for one in near]
    first = [min(one) for one in near]
    assert trace.programs.tolist() == [sorted(set(first)).index(one) for one in first]


def test_nobody_waits_for_who_is_not_above():
    draft = TraceDraft(4)
    draft.add(0, (1, 1), [1])
    with pytest.raises(BadTrace, match="must stand below"):
        draft.add(0, (1, 1), [1], after=[0, 1])
    with pytest.raises(BadTrace, match="must stand below"):
        draft.add(0, (1, 1), [1], after=[-1, 0])
    assert len(draft) == 1
    assert draft.add(0, (1, 1), [1], after=[0, 0]) == 1
    assert draft.trace("n").joins.tolist() == []


@pytest.mark.parametrize("policy", ["radix", "random", "dynamo_wspt"])
def test_in_a_replay_nobody_comes_before_the_last_of_those_it_waits_for(policy):
    trace = synthesize("agents", 1, SMALL)
    assert len(trace.joins) > 20
    run = simulate(trace, policy, Scenario(SHAPE, speed=2.0))
    delay_ns = (trace.arrival_ns / 2.0).astype(np.int64)
    for request in np.flatnonzero(trace.after >= 0).tolist():
        before = awaited(trace, request)
        assert run.arrival_ns[request] == run.finish_ns[before].max() + delay_ns[request]
    if policy == "random":  # goes at once: nobody is heard of too late
        assert (run.decided_ns == run.arrival_ns).all()
    again = simulate(trace, policy, Scenario(SHAPE, speed=2.0))
    assert np.array_equal(run.finish_ns, again.finish_ns)


def test_a_program_takes_from_its_first_arrival_to_its_last_token():
    trace = replace(tiny_trace(), program=ints(3, 3, 1, 1))
    run = tiny_run(trace=trace)
    # First tokens after 40, 10, 20 and 30 ms, 10, 0, 20 and 4 gaps of 5 ms.
    assert run.program_ms.tolist() == [1010.0, 1050.0]
    figures = run_figures(run)
    assert figures.program_mean_ms == figures.program_p50_ms == 1030.0
    assert figures.program_p99_ms == pytest.approx(1049.6)
    never = replace(run, finish_ns=ints(*run.finish_ns[:3].tolist(), -1))
    assert never.program_ms.tolist() == [1010.0]
    nothing = replace(run, finish_ns=np.full(4, -1), first_ns=np.full(4, -1))
    assert np.isnan(run_figures(nothing).program_mean_ms)


def test_the_table_has_program_times_where_requests_have_company():
    plain = Report((ReportedRun(tiny_run()),))
    assert "load max/mean" in _shown(plain)
    assert "program s" not in _shown(plain)
    assert len(columns_of(plain.figures())) == 8
    trace = replace(tiny_trace(), program=ints(0, 0, 1, 1))
    with_programs = Report((ReportedRun(tiny_run(trace=trace)),))
    assert "program s" in _shown(with_programs)
    assert [one.heading for one in columns_of(with_programs.figures())[8:]] == [
        "program s",
        "p99 s",
    ]


def _shown(report):
    text = io.StringIO()
    Console(width=200, file=text).print(table(report))
    return text.getvalue()


def test_the_lab_tells_program_times():
    trace = synthesize("agents", 1, SMALL)
    settings = LabSettings(policies=("round_robin",), workers=(3,), kv_blocks=8192)
    figures = replay_all(trace, settings).figures()[0]
    run = simulate(trace, "round_robin", Scenario(SHAPE))
    assert figures.program_mean_ms == run.program_ms.mean()
    assert figures.program_p50_ms == np.percentile(run.program_ms, 50)
    assert figures.program_p99_ms == np.percentile(run.program_ms, 99)
