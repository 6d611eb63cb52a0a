"""The simulated fleet equals real schedulers over real caches, and Dynamo's replay of a trace."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from radixroute.replay.changes import DIE, SLOWNESS
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.shape import FleetBuffers, FleetShape
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.fleet.timing import POLYNOMIAL, Timing
from radixroute.replay.traces.trace import prefixes
from tests.parts import parts
from tests.replay.conversation import conversation, round_robin
from tests.replay.fleets import (
    Workload,
    changing_workload,
    drive,
    drive_slowly,
    new_fleet,
    new_trace,
    random_workload,
    slow_times,
    times,
    unpacked,
)
from tests.replay.slow_fleet import numbered_events

SMALLEST = FleetBuffers(words=0, events=0, reports=0, items=0)


def straight(fleet, until_ns):
    fleet.advance(until_ns, stop=at.NO_STOP)


def stopping(fleet, until_ns):
    fleet.advance(until_ns)


def assert_same(one, other):
    assert one.requests.tolist() == other.requests.tolist()
    assert one.workers.tolist() == other.workers.tolist()
    assert one.events == other.events
    assert one.reports == other.reports


def assert_equals_the_real_thing(load):
    """What a workload met on the way: the test below wants to see all of it."""
    seen = drive(load, new_fleet(load), straight)
    slow = drive_slowly(load)
    nodes = slow.nodes_by_key(seen.requests[:, at.FIRST_OUTPUT].tolist())
    assert times(seen.requests) == slow_times(slow)
    told = unpacked(seen.events, max(nodes.values(), default=0) + 1)
    assert in_any_order(load, told) == in_any_order(load, numbered_events(slow.events, nodes))
    preempted = [one.preemptions + one.scheduler.counters.preemptions for one in slow.workers]
    evicted = [one.evicted + one.cache.counters.evicted for one in slow.workers]
    assert seen.workers[:, at.N_PREEMPTED].tolist() == preempted
    assert seen.workers[:, at.N_EVICTED].tolist() == evicted
    cut_off = sum(len(row.earlier) for row in slow.rows.values())
    if not any(change.kind == DIE for change in load.changes):  # who dies tells no more
        assert_reports_tell_all_steps(seen.reports, slow)
    duplicates = sum(worker.cache.counters.deduplicated for worker in slow.workers)
    chunked = max((row[2] for worker in slow.workers for row in worker.steps), default=0)
    return Counter(
        preemptions=sum(preempted),
        evictions=sum(evicted),
        hits=int((seen.requests[:, at.CACHED] > 0).sum()),
        duplicates=duplicates,
        chunks=chunked == load.shape.max_num_batched_tokens,
        recomputed=int(seen.requests[:, at.RECOMPUTED].sum()),
        cut_off=cut_off,
        went_on=sum(row.first_ns < row.sequence.arrived_ns for row in slow.rows.values()),
        slowed=sum(change.kind == SLOWNESS and change.slowness != 1.0 for change in load.changes),
        smaller=len(set(load.shape.caches)) > 1,
        told=load.last_of is not None and bool(load.last_of.any()) and changes_something(load),
    )


def changes_something(load):
    """Who says that its session is over."""
    told, untold = (
        drive(one, new_fleet(one), straight) for one in (load, replace(load, last_of=None))
    )
    return told.events != untold.events


def in_any_order(load, rows):
    """What a cache loses when its worker dies has no order."""
    deaths = {(change.at_ns, change.worker) for change in load.changes if change.kind == DIE}
    return [
        (ns, worker, [(sorted(one[0]),) if len(one) == 1 else one for one in changes])
        if (ns, worker) in deaths
        else (ns, worker, changes)
        for ns, worker, changes in rows
    ]


def assert_reports_tell_all_steps(reports, slow):
    """Each worker's reports, in order, sum to its steps; all but the last end is checked."""
    for which, worker in enumerate(slow.workers):
        steps = iter(worker.steps)
        for report in (report for report in reports if report.worker == which):
            silent = [next(steps) for _ in range(report.decode_steps)]
            assert all(prefill == 0 for _, _, prefill, _ in silent)
            assert sum(end - start for start, end, _, _ in silent) == report.decode_ns
            assert sum(decodes for *_, decodes in silent) == report.decoded
            start, end, prefill, decodes = next(steps)
            assert (end, end - start) == (report.end_ns, report.step_ns)
            assert (prefill, decodes) == (report.prefill_tokens, report.decodes)
        assert next(steps, None) is None, "the last step of a worker always ends a request"


@pytest.mark.parametrize("seeds", parts(800, quick=200))
def test_it_does_what_real_schedulers_over_real_caches_do(seeds):
    met: Counter[str] = Counter()
    for seed in seeds:
        try:
            met += assert_equals_the_real_thing(random_workload(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
    assert all(
        met[what] > 0
        for what in (
            "preemptions",
            "evictions",
            "hits",
            "duplicates",
            "chunks",
            "recomputed",
            "told",
        )
    ), f"the workloads are too tame: {met}"


@pytest.mark.parametrize("seeds", parts(400, quick=100))
def test_it_still_does_when_workers_differ_slow_down_recover_and_die(seeds):
    met: Counter[str] = Counter()
    for seed in seeds:
        try:
            met += assert_equals_the_real_thing(changing_workload(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
    assert all(
        met[what] > 0
        for what in ("cut_off", "went_on", "slowed", "smaller", "preemptions", "recomputed")
    ), f"the workloads are too tame: {met}"


def test_output_blocks_are_found_again_after_a_preemption():
    """Its own output is in the cache still: the engine does not compute it a second time."""
    trace = new_trace(2, [0, 0], [2, 2], [7, 9], [0, 1, 2], [1, 2])
    shape = FleetShape(workers=1, kv_blocks=6, block_size=2, max_num_batched_tokens=8)
    load = Workload(trace, prefixes(trace, 2), shape, Timing("even", a0=1.0, d0=1.0), [0, 0])
    met = assert_equals_the_real_thing(load)
    assert met["preemptions"] == 1
    assert met["recomputed"] == 2  # of 6: a prompt block and an output block were left


def test_a_watermark_refuses_no_request_that_fits_an_empty_worker():
    trace = new_trace(2, [0], [4], [1], [0, 2], [1, 2])
    timing = Timing("even", a0=1.0)
    fitting = FleetShape(workers=1, kv_blocks=2, block_size=2, watermark_blocks=2)
    assert_equals_the_real_thing(Workload(trace, prefixes(trace, 2), fitting, timing, [0]))
    with pytest.raises(InvalidShape, match="larger workers"):
        SimulatedFleet(
            trace, prefixes(trace, 2), FleetShape(workers=1, kv_blocks=1, block_size=2), timing
        )


@pytest.mark.parametrize("seeds", parts(400, quick=100))
def test_how_time_is_cut_changes_nothing(seeds):
    for seed in seeds:
        load = changing_workload(seed) if seed % 4 == 3 else random_workload(seed)
        rng = random.Random(seed)

        def cut(fleet, until_ns, rng=rng):
            ahead = rng.choice((1, 10**5, 10**6, 5 * 10**6))
            fleet.advance(
                min(until_ns, fleet.now_ns + ahead), stop=rng.choice((at.REPORT, at.NO_STOP))
            )

        whole = drive(load, new_fleet(load), straight)
        for advance in (stopping, cut):
            try:
                assert_same(drive(load, new_fleet(load), advance), whole)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {advance.__name__}") from error


def test_each_stop_is_the_time_of_a_report():
    for seed in range(100):
        load = random_workload(seed)
        fleet = new_fleet(load)
        for request, worker in enumerate(load.placement):
            fleet.submit(request, worker, 0)
        while not fleet.is_idle:
            now_ns = fleet.advance(1 << 50)
            ends = {report.end_ns for report in fleet.take_reports()}
            assert ends == {now_ns}, f"seed {seed}"


def test_it_stops_where_a_request_ends_that_another_one_follows():
    load = random_workload(3)
    follower = len(load.trace) - 1
    load.trace.after[follower] = 1
    fleet = new_fleet(load)
    for request, worker in enumerate(load.placement[:-1]):
        fleet.submit(request, worker, 0)
    fleet.advance(1 << 50, stop=at.FOLLOWED)
    assert fleet.requests[1, at.FINISH_NS] == fleet.now_ns
    assert fleet.advance(1 << 50, stop=at.FOLLOWED) == 1 << 50
    assert fleet.is_idle


def test_who_looks_at_a_fast_forward_sees_the_step_of_now():
    """Steps of 1 ms from 0 on, alike until the block is full; looking changes nothing."""
    trace = new_trace(64, [0], [1], [40], [0, 1], [1])
    load = Workload(
        trace, prefixes(trace, 64), FleetShape(1, 4, 64), Timing("even", a0=1.0, d0=1.0), [0]
    )
    fleet, other = new_fleet(load), new_fleet(load)
    for each in (fleet, other):
        each.submit(0, 0, 0)
    fleet.advance(10_500_000, stop=at.NO_STOP)
    assert fleet.step_starts().tolist() == [10_000_000]
    for each in (fleet, other):
        each.advance(1 << 50, stop=at.NO_STOP)
    assert fleet.requests.tolist() == other.requests.tolist()


@pytest.mark.parametrize("seeds", parts(400, quick=100))
def test_small_buffers_change_nothing(seeds):
    for seed in seeds:
        load = random_workload(seed)
        for advance in (straight, stopping):
            whole = drive(load, new_fleet(load), advance)
            small = drive(load, new_fleet(load, SMALLEST), advance)
            try:
                assert_same(small, whole)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {advance.__name__}") from error


# Dynamo's offline replay (ai-dynamo-runtime 1.6.1) of the trace, round robin over 8 workers:
# reuse, TTFT mean, median and 99th percentile in ms, mean ITL over tokens in ms.
DYNAMO = {1.0: (0.0817, 321.1, 184.1, 2048, 7.59), 4.0: (0.0815, 475.3, 273.8, 2781, 25.84)}


@pytest.mark.parametrize(("speed", "tolerance"), [(1.0, 0.005), (4.0, 0.01)])
def test_round_robin_over_the_conversation_trace_agrees_with_dynamo(speed, tolerance):
    trace = conversation(speed)
    fleet = SimulatedFleet(trace, prefixes(trace, 64), FleetShape(8, 16_384, 64), POLYNOMIAL)
    round_robin(trace, fleet)
    rows = fleet.requests
    ttft_ms = (rows[:, at.FIRST_NS] - trace.arrival_ns) / 1e6
    n_gaps = rows[:, at.OUTPUT] - 1
    itl_ms = (rows[:, at.FINISH_NS] - rows[:, at.FIRST_NS]).sum() / 1e6 / n_gaps.sum()
    found = (
        rows[:, at.CACHED].sum() / rows[:, at.PROMPT].sum(),
        ttft_ms.mean(),
        np.median(ttft_ms),
        np.percentile(ttft_ms, 99),
        itl_ms,
    )
    assert found == pytest.approx(DYNAMO[speed], rel=tolerance)
    assert not fleet.workers[:, at.N_PREEMPTED].any()
