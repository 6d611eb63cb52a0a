"""Workers that died or are coming up stay in sight, and their deaths are counted by their ids."""

from dataclasses import replace

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import Absence, AbsentWorker
from tests.router.clusters import cluster
from tests.router.worlds import World, spec

A = WorkerId("a")


def shown(world: World) -> dict[str, tuple[str, int, str]]:
    world.core.check()
    return {w.worker_id: (w.state, w.deaths, w.reason) for w in world.core.snapshot().workers}


def dies_and_comes_back(world: World, life: int, *, told: int = 0) -> None:
    """As the controller tells it: dead, no longer listed, coming up, listed again."""
    world.do(world.core.lost(A, "its process ended", world.now_ns))
    world.do(world.core.set_members([spec("b")], world.now_ns))
    reason = "its process ended"
    world.core.set_absent([AbsentWorker(A, Absence.RESTARTING, deaths=told, reason=reason)])
    assert shown(world)["a"] == ("restarting", max(life, told), reason)
    world.core.set_absent([])
    world.do(world.core.set_members([spec("a", life + 1), spec("b")], world.now_ns))


def test_five_kills_are_five_deaths():
    world = World("a", "b")
    for life in range(1, 6):
        dies_and_comes_back(world, life)
        assert shown(world)["a"][:2] == ("joining", life)
        world.workers["a"].epoch = life + 1
        world.join("a")
        assert shown(world)["a"][:2] == ("live", life)
    assert shown(world)["b"][1] == 0


def test_starts_that_failed_count_as_the_controller_tells():
    """A router that is new, or saw only some of it, shows the controller's count."""
    world = World("a", "b")
    dies_and_comes_back(world, 1, told=4)
    listed = [replace(spec("a", 2), deaths=4), spec("b")]
    before = len(world.log)
    world.do(world.core.set_members(listed, world.now_ns))
    assert len(world.log) == before  # another count is no other worker
    world = World("b")
    world.do(world.core.set_members(listed, world.now_ns))
    assert shown(world)["a"][1] == 4


def test_a_listed_worker_is_shown_as_what_it_is_here():
    world = World("a")
    world.core.set_absent([AbsentWorker(A, Absence.RESTARTING)])
    assert shown(world)["a"][0] == "live"


@pytest.mark.parametrize("why", Absence)
async def test_who_asks_sees_workers_that_are_coming_up(why):
    async with cluster() as (service, _, inspect):
        service.set_members(
            [], [AbsentWorker(WorkerId("w"), why, deaths=3, reason="out of memory")]
        )
        (worker,) = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
        assert (worker.worker_id, worker.state, worker.deaths) == ("w", why.value, 3)
        assert (worker.reason, worker.address, worker.in_flight) == ("out of memory", "", 0)
        assert (await inspect.HitRates(pb.HitRatesRequest())).total.kv_use == 0.0
