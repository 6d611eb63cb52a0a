"""Several routers over one fleet: what each hears of the others, and what that costs."""

import numpy as np
import pytest

from bench.replay.swings import WINDOW_NS, given_again, swing
from radixroute.replay.changes import DIE, DRAIN, JOIN, SLOWNESS, FleetChange
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.routers.load_reports import LoadReports
from radixroute.replay.scenario import BY_HASH, ROUND_ROBIN, Routers, Scenario
from radixroute.replay.simulate import Simulation, simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import prefixes, sessions
from tests.replay.fleets import new_trace
from tests.replay.golden_decisions import digest
from tests.replay.runs import make_trace, result

SHAPE = FleetShape(workers=4, kv_blocks=2048, block_size=64)


@pytest.fixture(scope="module")
def chats():
    return cut(synthesize("chats", 3), 400)


def run(trace, policy, routers, speed=4.0, **scenario):
    return simulate(trace, policy, Scenario(SHAPE, speed=speed, routers=routers, **scenario))


@pytest.mark.parametrize("by", [ROUND_ROBIN, BY_HASH])
@pytest.mark.parametrize("policy", ["radix", "dynamo_agentic", "session_affinity"])
def test_every_request_is_served_once_whichever_router_it_comes_to(chats, policy, by):
    found = run(chats, policy, Routers(4, by))
    assert (found.worker >= 0).all()
    assert (found.arrival_ns <= found.decided_ns).all()
    assert (found.decided_ns <= found.admitted_ns).all()
    assert (found.first_ns <= found.finish_ns).all()


def test_the_same_seed_gives_the_same_run_and_routers_draw_apart(chats):
    once = digest(run(chats, "random", Routers(2)))
    assert digest(run(chats, "random", Routers(2))) == once
    assert digest(run(chats, "random", Routers(1))) != once
    assert digest(run(chats, "radix", Routers(2))) != digest(run(chats, "radix", Routers(1)))


def test_one_router_needs_no_heartbeats(chats):
    often = run(chats, "radix", Routers(1, heartbeat_ms=1.0))
    assert digest(often) == digest(run(chats, "radix", Routers(1)))


def test_a_session_stays_with_its_router_by_hash_alone(chats):
    of = sessions(chats)
    for by, alike in ((BY_HASH, True), (ROUND_ROBIN, False)):
        simulation = Simulation(chats, "radix", Scenario(SHAPE, routers=Routers(4, by)), None)
        router_of = np.array(simulation._requests.router_of)
        assert set(router_of.tolist()) == {0, 1, 2, 3}
        spread = [len(set(router_of[of == one].tolist())) for one in set(of[of >= 0].tolist())]
        assert (max(spread) == 1) is alike


def test_routers_that_never_hear_of_each_other_lose(chats):
    """For an hour each believes that all workers are its own."""
    alone, never = (
        run(chats, "dynamo_agentic", routers, speed=12.0).ttft_ms.mean()
        for routers in (Routers(1), Routers(4, heartbeat_ms=3.6e6))
    )
    assert alone < never


def test_several_routers_see_a_fleet_change(chats):
    third = chats.duration_ns / 4.0 / 3e9
    changes = (
        FleetChange(third / 2, 0, SLOWNESS, 3.0),
        FleetChange(third, 1, DIE),
        FleetChange(1.2 * third, 2, DRAIN),
        FleetChange(2 * third, 1, JOIN),
    )
    found = run(chats, "radix", Routers(3), changes=changes)
    assert (found.finish_ns > 0).all()
    assert not ((found.worker == 2) & (found.decided_ns > changes[2].at_ns)).any()
    assert ((found.worker == 1) & (found.decided_ns > changes[3].at_ns)).any()
    assert digest(run(chats, "radix", Routers(3), changes=changes)) == digest(found)


@pytest.mark.parametrize(
    ("routers", "why"),
    [
        ({"n": 0}, "at least 1"),
        ({"by": "door"}, "round_robin or hash"),
        ({"heartbeat_ms": 0.0}, "above 0"),
    ],
)
def test_routers_that_cannot_be_are_refused(routers, why):
    with pytest.raises(InvalidShape, match=why):
        Routers(**routers)


# -- what a worker says


def test_a_report_counts_what_the_scheduler_had_seen_when_its_last_step_ended():
    """Steps of 10 ms; prompts of 4 tokens; a step takes 4 tokens."""
    trace = new_trace(4, [0, 0, 5_000_000], [4, 4, 4], [3, 3, 3], [0, 1, 2, 3], [1, 2, 3])
    shape = FleetShape(1, 64, 4, max_num_batched_tokens=4)
    fleet = SimulatedFleet(trace, prefixes(trace, 4), shape, Timing("even", a0=10.0, d0=10.0))
    loads = LoadReports(fleet, ["a", "b"], 250.0)
    for request, router in ((0, 0), (1, 1)):
        fleet.submit(request, 0, 0)
        loads.came(request, 0, router, seq=request + 5, likely_cached=0)
    fleet.advance(5_000_000)
    fleet.submit(2, 0, fleet.now_ns)
    loads.came(2, 0, 0, seq=6, likely_cached=3)
    _, report = loads.beat()
    assert report is not None
    of_a, of_b = report.sessions
    assert (of_a.in_flight, of_a.queued_tokens, of_a.acknowledged_dispatch) == (0, 0, 0)
    assert (of_b.in_flight, of_b.queued_tokens, of_b.acknowledged_dispatch) == (0, 0, 0)
    fleet.advance(
        15_000_000, stop=at.NO_STOP
    )  # one step is over: the first prompt is computed, the second begun
    _, report = loads.beat()
    assert report is not None
    of_a, of_b = report.sessions
    assert (of_a.in_flight, of_a.queued_tokens, of_a.acknowledged_dispatch) == (2, 1, 6)
    assert (of_b.in_flight, of_b.acknowledged_dispatch) == (0, 0)
    for request in (0, 1, 2):
        loads.ended(request, 0)
    assert loads.beat()[1] is not None, "that it has nothing any more is news"
    assert loads.beat() == (0, None)


def test_workers_take_turns_with_heartbeats():
    trace = new_trace(4, [0], [4], [1], [0, 1], [1])
    fleet = SimulatedFleet(trace, prefixes(trace, 4), FleetShape(4, 64, 4), Timing("even", a0=1.0))
    loads = LoadReports(fleet, ["a"], 200.0)
    seen = [(loads.due_ns, loads.beat()[0]) for _ in range(6)]
    assert seen == [(50_000_000 * n, n % 4) for n in range(6)]


# -- the measure of swings


def a_run(decided, worker, took_ms=100.0):
    n = len(decided)
    trace = make_trace([([i], 4) for i in range(n)])
    ns = [round(one * WINDOW_NS) for one in decided]
    first = [one + round(took_ms * 1e6) for one in ns]
    return result(trace, decided_ns=ns, first_ns=first, worker=worker)


def test_work_that_goes_to_and_fro_shows():
    """Two routers' worth of prompts on one worker, then on the other; against one on each."""
    times = [n // 2 for n in range(40)]
    fro = a_run(times, [n // 2 % 2 for n in range(40)], took_ms=240.0)
    even = a_run(times, [n % 2 for n in range(40)], took_ms=240.0)
    assert given_again(fro) < -0.8
    assert given_again(even) == 0.0
    slow = 600.0  # it waits for some windows
    assert swing(a_run(times, [n // 2 % 2 for n in range(40)], slow)) > swing(
        a_run(times, [n % 2 for n in range(40)], slow)
    )
