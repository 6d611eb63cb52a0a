"""A simulation that learns of requests while it goes on decides as one that knows them all."""

from dataclasses import replace

import numpy as np
import pytest

from radixroute.replay.changes import DIE, DRAIN, JOIN, SLOWNESS, FleetChange
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import LINEAR, POLYNOMIAL
from radixroute.replay.scenario import Conditions, Routers, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.stream import Arrival, Outcome, StreamedSimulation
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import Trace, prefixes, sessions

SHAPE = FleetShape(workers=4, kv_blocks=700, block_size=64)
CONDITIONS = Conditions(event_delay_ms=2.0, dispatch_ms=1.5, client_ms=3.0)


@pytest.fixture(scope="module")
def mixed() -> Trace:
    """Chats and few-shot prompts, each where it would come; no row waits for another."""
    trace = cut(synthesize("chats", 3), 350)
    run = simulate(trace, "radix", Scenario(SHAPE, speed=6.0))
    order = np.argsort(run.arrival_ns, kind="stable")
    ids = [trace.blocks[trace.first_block[r] : trace.first_block[r + 1]] for r in order]
    return Trace(
        "mixed",
        trace.block_size,
        run.arrival_ns[order] + np.arange(len(order)),
        trace.input_tokens[order],
        trace.output_tokens[order],
        np.cumsum([0, *map(len, ids)]),
        np.concatenate(ids),
        np.full(len(order), -1, np.int64),
        program=trace.programs[order],
    )


def streamed(
    trace: Trace, policy: str, scenario: Scenario, cuts: list[int], *, takes: bool = True
) -> list[Outcome]:
    """Fed piece by piece: before each of these times all that comes before it. By request."""
    numbered, named = prefixes(trace, scenario.shape.block_size), sessions(trace)
    stream = StreamedSimulation(policy, replace(scenario, changes=()))
    for change in scenario.changes:
        stream.change(change)
    fed, found = 0, list[Outcome]()
    for until_ns in [*sorted(cuts), 1 << 50]:
        arrivals = []
        while fed < len(trace) and trace.arrival_ns[fed] < until_ns:
            session = int(named[fed])
            nodes = numbered.of(fed)
            arrivals.append(
                Arrival(
                    fed,
                    int(trace.arrival_ns[fed]),
                    int(trace.input_tokens[fed]),
                    int(trace.output_tokens[fed]),
                    nodes,
                    len(nodes),
                    None if session < 0 else session,
                )
            )
            fed += 1
        stream.add(arrivals)
        stream.advance(until_ns)
        if takes:
            found += stream.take_outcomes()
    found += stream.take_outcomes()
    assert stream.n_open == stream.n_unfit == 0
    assert sorted(one.tag for one in found) == list(range(len(trace)))
    return sorted(found, key=lambda one: one.tag)


def whole(trace: Trace, policy: str, scenario: Scenario) -> list[Outcome]:
    run = simulate(trace, policy, scenario)
    return [
        Outcome(
            request,
            *(
                int(column[request])
                for column in (
                    run.worker,
                    run.arrival_ns,
                    run.decided_ns,
                    run.first_ns,
                    run.finish_ns,
                    trace.input_tokens,
                    run.cached_tokens,
                    run.predicted_tokens,
                )
            ),
        )
        for request in range(len(trace))
    ]


def random_cuts(trace: Trace, seed: int, n: int) -> list[int]:
    """Some on arrivals, some right behind them, some anywhere."""
    rng = np.random.default_rng(seed)
    end = int(trace.arrival_ns[-1]) + 5_000_000_000
    at_arrivals = rng.choice(trace.arrival_ns, n // 2)
    return [*at_arrivals.tolist(), *(at_arrivals + 1).tolist(), *rng.integers(1, end, n).tolist()]


@pytest.mark.parametrize(
    "policy", ["radix", "dynamo_agentic", "round_robin", "lodestar", "dualmap"]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_fed_in_any_pieces_it_decides_as_a_whole_trace_does(mixed, policy, seed):
    scenario = Scenario(SHAPE, POLYNOMIAL, seed=seed, conditions=CONDITIONS)
    wanted = whole(mixed, policy, scenario)
    assert max(one.decided_ns - one.arrival_ns for one in wanted) > 0 or policy != "radix"
    for n in (0, 40, 400):
        assert streamed(mixed, policy, scenario, random_cuts(mixed, seed + n, n)) == wanted


@pytest.mark.parametrize("policy", ["radix", "least_loaded"])
def test_workers_that_die_leave_and_come_are_as_in_a_whole_trace(mixed, policy):
    third = float(mixed.arrival_ns[-1]) / 3e9
    changes = (
        FleetChange(third / 2, 0, SLOWNESS, 3.0),
        FleetChange(third, 1, DIE),
        FleetChange(1.2 * third, 2, DRAIN),
        FleetChange(2 * third, 2, JOIN),
    )
    scenario = Scenario(SHAPE, LINEAR, changes=changes)
    wanted = whole(mixed, policy, scenario)
    assert streamed(mixed, policy, scenario, random_cuts(mixed, 5, 100)) == wanted


def test_rows_are_used_again_and_memory_follows_what_is_open(mixed):
    numbered = prefixes(mixed, 64)
    stream = StreamedSimulation("round_robin", Scenario(SHAPE))
    now_ns = 0
    for turn in range(20):
        for request in range(len(mixed)):
            nodes = numbered.of(request)
            now_ns += 20_000_000
            tokens = int(mixed.input_tokens[request])
            stream.advance(now_ns)
            stream.add([Arrival(request, now_ns, tokens, 2, nodes, len(nodes))])
            stream.take_outcomes()
        if turn == 1:
            rows, held = len(stream._fleet.requests), len(stream._nodes)
    assert stream.n_open < 100
    assert len(stream._fleet.requests) == rows
    assert len(stream._nodes) <= 2 * held


def test_what_no_worker_could_hold_is_counted_and_left_out():
    stream = StreamedSimulation("radix", Scenario(SHAPE))
    nodes = np.arange(701, dtype=np.int32)
    stream.add([Arrival(1, 5, 701 * 64, 1, nodes, 701), Arrival(2, 6, 64, 1, nodes[:1], 1)])
    stream.advance(1 << 50)
    assert [one.tag for one in stream.take_outcomes()] == [2]
    assert (stream.n_unfit, stream.n_open) == (1, 0)


def test_outputs_that_are_asked_for_again_are_found():
    """The second turn has the first one's answer in its prompt: equal blocks have equal numbers."""
    stream = StreamedSimulation("radix", Scenario(SHAPE))
    first, second = np.arange(3, dtype=np.int32), np.arange(5, dtype=np.int32)
    stream.add([Arrival(1, 0, 128, 65, first, 2), Arrival(2, 10**12, 300, 1, second, 4)])
    stream.advance(1 << 50)
    assert [one.cached_tokens for one in stream.take_outcomes()] == [0, 192]


def test_the_past_is_refused_and_so_are_several_routers():
    stream = StreamedSimulation("radix", Scenario(SHAPE))
    stream.advance(1000)
    with pytest.raises(InvalidShape, match="past"):
        stream.add([Arrival(1, 5, 64, 1, np.zeros(1, np.int32), 1)])
    with pytest.raises(InvalidShape, match="one router"):
        StreamedSimulation("radix", Scenario(SHAPE, routers=Routers(2)))
