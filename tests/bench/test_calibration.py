"""What bench-calibration makes of noted steps: their work, their time, the way around them."""

from dataclasses import replace

import numpy as np
import pytest

from bench.calibration.judgement import (
    TTFT_BARS,
    Pair,
    crowding,
    load_rows,
    step_rows,
    ways,
)
from bench.calibration.step_recording import (
    Noted,
    RecordingRunner,
    between,
    read_steps,
    timed,
)
from bench.calibration.workloads import all_at_once, at_speed, drawn
from radixroute.live.replay import LiveResult
from radixroute.protos import radixroute_pb2 as pb
from radixroute.replay.calibration.rows import StepRow, WayRow
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.results import RunResult
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.runner import SequenceSlice, StepPlan, StepResult
from tests.replay.runs import make_trace

MS = 1_000_000
# A prompt of two chunks, then it decodes beside a prompt of a single token; then all is over.
STEPS = [
    Noted(0, 100 * MS, 100 * MS, ((3, 16, 64, False),)),
    Noted(101 * MS, 200 * MS, 50 * MS, ((3, 80, 20, True),)),
    Noted(203 * MS, 230 * MS, 27 * MS, ((3, 100, 1, True), (9, 32, 1, True))),
    Noted(900 * MS, 950 * MS, 50 * MS, ((3, 0, 10, True),)),
]


def test_steps_are_told_by_what_goes_on_in_them():
    rows = [step.row for step in timed(STEPS)]
    assert [(row.prefill_tokens, row.prompts, row.decoding) for row in rows] == [
        (64, 1, 0),
        (20, 1, 0),
        (1, 1, 1),  # a token behind 32 cached ones is a prompt
        (10, 1, 0),
    ]
    assert [row.context_tokens for row in rows] == [0, 0, 101, 0]
    assert [row.pairs for row in rows] == [
        sum(range(17, 81)),
        sum(range(81, 101)),
        33,
        sum(range(1, 11)),
    ]


def test_a_step_lasts_until_the_next_one_can_begin():
    """Pauses of 1 and 3 ms between steps that go on: 2 ms behind those after which nothing does."""
    assert [step.row.ms for step in timed(STEPS)] == [101.0, 102.0, 29.0, 52.0]
    assert [step.row.ms for step in timed(STEPS[:1])] == [100.0]


def test_a_file_of_steps_is_read_as_far_as_it_is_whole(tmp_path):
    class Model:
        facts = None

        def execute(self, plan):
            return StepResult((7,) * len(plan.slices))

    path = tmp_path / "steps"
    with path.open("w", buffering=1) as file:
        runner = RecordingRunner(Model(), file)  # type: ignore[arg-type]
        for start, n in ((0, 20), (20, 1), (21, 1)):
            table = np.array([4, 5], np.int32)
            one = SequenceSlice(np.zeros(n, np.uint32), start, table, SamplingParams())
            assert runner.execute(StepPlan((one,))) == StepResult((7,))
        file.write("[1, 2, 3, [[4")
    rows = [step.row for step in read_steps(path)]
    assert [(row.prefill_tokens, row.decoding, row.context_tokens) for row in rows] == [
        (20, 0, 0),
        (0, 1, 21),
        (0, 1, 22),
    ]


def test_what_others_took_of_the_processor_is_told():
    steps = timed(STEPS)
    assert [round(step.crowding, 2) for step in steps] == [1.0, 1.98, 1.0, 1.0]
    assert crowding(steps) == pytest.approx(276 / 227)
    assert crowding([]) == 1.0


def test_steps_are_of_the_run_in_which_they_began():
    steps = timed(STEPS)
    assert between(steps, 101 * MS, 900 * MS) == steps[1:3]


def live_of(sent_ms, first_ms):
    trace = make_trace([([number], 4) for number in range(len(sent_ms))])
    sent, first = np.array(sent_ms) * MS, np.array(first_ms) * MS
    zero = np.zeros_like(sent)
    result = RunResult(
        trace=trace,
        policy="radix",
        workers=1,
        speed=1.0,
        seed=1,
        block_size=4,
        arrival_ns=sent,
        worker=zero,
        decided_ns=sent,
        admitted_ns=sent,
        first_ns=first,
        finish_ns=first,
        cached_tokens=zero,
        predicted_tokens=zero,
        recomputed_tokens=zero,
        wall_s=1.0,
    )
    return LiveResult(result, start_ns=1000 * MS)


def entry(arrived_ms, sent_on_ms):
    return pb.EndedRequest(arrival_ns=arrived_ms * MS, dispatched_ns=sent_on_ms * MS)


def test_the_way_is_what_no_step_took():
    steps = timed([replace(s, began_ns=s.began_ns + 1010 * MS, ended_ns=s.ended_ns + 1010 * MS)
                   for s in STEPS])  # fmt: skip
    # The first finds its engine idle, the second comes while it computes.
    live = live_of([4, 150], [214, 245])
    log = [entry(1006, 1007), entry(1152, 1153)]
    (one,) = ways(live, steps, log)
    # There at 1,007, begun at 1,010; the step that told was over at 1,212, heard at 1,214.
    # Its steps end at 1,213 for whoever waits for the next one.
    assert one == WayRow(3.0, 3.0 + 1.0)


def test_who_cannot_be_told_apart_says_nothing():
    steps = timed([replace(s, began_ns=s.began_ns + 1010 * MS, ended_ns=s.ended_ns + 1010 * MS)
                   for s in STEPS])  # fmt: skip
    assert ways(live_of([4], [214]), steps, []) == []
    assert ways(live_of([4, 5], [214, 215]), steps, [entry(1006, 1007), entry(1008, 1009)]) == []
    assert ways(live_of([4], [50]), steps, [entry(1006, 1007)]) == []  # before any step was over


def test_each_kind_of_step_has_its_rows_and_the_mean_its_bar():
    timing = Timing("t", a1=1.0, every=10.0, d_each=2.0, kv_tokens=100)
    steps = [
        replace(timed(STEPS)[0], row=StepRow(*work, ms))
        for work, ms in (
            ((10, 1, 55, 0, 0), 20.0 / 1.1),  # 10 % more than it took
            ((10, 1, 55, 0, 0), 20.0 / 0.9),
            ((0, 0, 0, 4, 50), 18.0 / 0.9),
        )
    ]
    rows = {row.name: row for row in step_rows(timing, steps)}
    assert rows["step.prefill.mean_time_error"].ours == pytest.approx(1.0, abs=0.05)
    assert rows["step.prefill.mean_time_error"].is_met
    assert rows["step.prefill.error_of_each"].ours == pytest.approx(10.0)
    assert rows["step.decode.mean_time_error"].ours == pytest.approx(10.0)
    assert not rows["step.decode.mean_time_error"].is_met
    assert "step.beside.steps" not in rows


def pair(load, live, simulated):
    return Pair(load, 1, 9, live, simulated, 50.0, 49.0, 0.3, 0.3, 0.0, 1.0)


@pytest.mark.parametrize(("load", "bar"), [*TTFT_BARS.items(), (0.9, None)])
def test_the_median_run_is_judged_and_the_worst_is_told(load, bar):
    pairs = [pair(load, 100.0, 130.0), pair(load, 100.0, 88.0), pair(load, 100.0, 102.0)]
    rows = {row.name: row for row in load_rows(load, pairs)}
    assert rows[f"load{load:g}.ttft.error"].ours == pytest.approx(2.0)
    assert rows[f"load{load:g}.ttft.error"].bar == bar
    assert rows[f"load{load:g}.ttft.worst_error"].ours == pytest.approx(30.0)


def test_a_workload_is_its_seed_and_no_other_has_its_lengths():
    one, same, other = drawn(3, 40), drawn(3, 40), drawn(4, 40)
    assert one.input_tokens.tolist() == same.input_tokens.tolist()
    assert one.arrival_ns.tolist() == same.arrival_ns.tolist()
    assert one.input_tokens.tolist() != other.input_tokens.tolist()
    assert one.arrival_ns[-1] == 40 * 10**9
    assert at_speed(one, 2.0).arrival_ns[-1] == 20 * 10**9
    assert not all_at_once(one).arrival_ns.any()
    assert (one.input_tokens > 512).any(), "some take several steps"
