"""A load gradient: the busiest that still meets the goals, so that others fall idle."""

from typing import Any

import numpy as np

from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.router.policy.baselines.load_gradient import (
    ITL_GOAL_MS,
    TTFT_GOAL_MS,
    Room,
    pick,
)
from tests.router.scalar_score import Row, view
from tests.router.worlds import World, request


def chosen(*rows: Row, free: dict[str, float] | None = None):
    """`free`: blocks of those whose caches are known; 70 are needed."""
    known = np.array([(free or {}).get(row.worker_id, np.inf) for row in rows])
    what = view(*rows, own=Room(70.0, known))
    choice = pick(what)
    return what.worker_ids[choice.chosen], choice.reason


def busy(name: str, n: int, **more) -> Row:
    return Row(name, in_flight=n, decoding=n, **more)


def test_the_busiest_that_meets_both_goals_has_it_and_the_idle_stay_idle():
    assert chosen(Row("a"), busy("b", 4), busy("c", 9), busy("d", 7))[0] == "c"


def test_who_would_miss_the_first_token_is_passed_over_however_busy():
    """1,000 tokens take 505 ms here."""
    late = busy("a", 20, backlog_ms=TTFT_GOAL_MS - 500.0)
    assert chosen(late, busy("b", 4), Row("c"))[0] == "b"
    in_time = busy("a", 20, backlog_ms=TTFT_GOAL_MS - 540.0)
    assert chosen(in_time, busy("b", 4), Row("c"))[0] == "a"


def test_who_would_miss_the_goal_between_tokens_is_passed_over():
    """A step takes 10 ms and 1 ms for each request, this one counted."""
    most = int(ITL_GOAL_MS - 10.0)
    assert chosen(busy("a", most), busy("b", 4), Row("c"))[0] == "b"
    assert chosen(busy("a", most - 1), busy("b", 4), Row("c"))[0] == "a"


def test_where_nobody_meets_the_goals_the_soonest_first_token_goes():
    rows = (busy("a", 9, backlog_ms=3000.0), busy("b", 2, backlog_ms=2000.0), busy("c", 50))
    where, reason = chosen(*rows)
    assert where == "c"
    assert reason.startswith("Nobody")


def test_whose_cache_has_no_room_for_the_whole_answer_is_passed_over():
    rows = (busy("a", 9), busy("b", 4), Row("c"))
    assert chosen(*rows, free={"a": 69.0, "b": 70.0})[0] == "b"
    assert chosen(*rows, free={"a": 70.0})[0] == "a"
    late = (busy("a", 9, backlog_ms=900.0), busy("b", 4, backlog_ms=950.0))
    assert chosen(*late, free={"a": 69.0})[0] == "b", "where nobody is in time, too"


def test_room_is_taken_while_a_request_is_there_and_no_longer():
    world = World(*"ab", seats=9)
    policy: Any = world.core._state.selector.policy("load_gradient")
    memory = policy._on_settle.__self__
    world.submit(request("r0", policy="load_gradient", n=2))
    (where,) = [w for w in "ab" if world.on(w)]
    needed = (8 * 16 + 3 + 2) / 16
    assert memory._free == {where: 1000 - needed}
    world.submit(request("r1", policy="load_gradient", n=2))
    assert memory._free == {where: 1000 - 2 * needed}, "the busier one has it"
    world.step(where)
    world.step(where)
    assert not memory._free
    assert not memory._booked


def test_of_two_as_busy_the_one_that_holds_more_has_it():
    assert chosen(busy("a", 5), busy("b", 5, overlap=50), busy("c", 4, overlap=60))[0] == "b"


def test_light_load_is_kept_on_few_workers_and_more_come_in_where_they_are_slower():
    def share(slowness: float) -> list[float]:
        shape = FleetShape(8, 4096, 64, slowness=(slowness,) * 8)
        run = simulate(trace, "load_gradient", Scenario(shape))
        return sorted((np.bincount(run.worker, minlength=8) / len(trace)).tolist())[::-1]

    trace = cut(synthesize("chats", 1), 400)
    light, heavy = share(1.0), share(10.0)
    assert light[0] > 0.4, "most are on one worker"
    assert sum(light[3:]) < 0.1, "five are hardly asked"
    assert sum(heavy[3:]) > 0.2
