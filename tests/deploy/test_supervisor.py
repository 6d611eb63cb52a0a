"""The supervisor: desired state kept, incarnations issued once, the router told in time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from radixroute.deploy.actors import actor_slot
from radixroute.deploy.actors.supervisor import Supervisor
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.ledger import Ledger, MemoryStore
from radixroute.deploy.state.records import TOLD_TO_END, ActorState
from radixroute.radix.errors import BrokenInvariant
from radixroute.router.messages.inputs import Absence, MemberSpec
from tests.deploy.fakes import FakeActor, FakeSpawners

SETTINGS = ClusterSettings(workers=2, stop_timeout_s=1.0)


class Harness:
    """A supervisor over fake actors; `until` turns the loop until a claim holds."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        spawners: FakeSpawners | None = None,
        settings: ClusterSettings = SETTINGS,
    ) -> None:
        self.store = store or MemoryStore()
        self.spawners = spawners or FakeSpawners()
        self.ledger = Ledger.open(self.store)
        self.supervisor = Supervisor(settings, self.spawners, self.ledger)

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not claim():
                self.supervisor.check()
                await asyncio.sleep(0)

    async def up(self) -> None:
        self.supervisor.start()
        await self.until(lambda: self.supervisor.status.is_live)
        await self.until(lambda: len(self.members()) == 2)

    async def live_router(self) -> FakeActor:
        await self.until(lambda: bool(self.spawners.lives.get("router")))
        router = self.spawners.current("router")
        await self.until(lambda: bool(router.pushes))
        return router

    def members(self) -> tuple[MemberSpec, ...]:
        router = self.spawners.lives.get("router", [None])[-1]
        return router.pushes[-1] if router and router.pushes else ()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_slot, "BACKOFF_FIRST_S", 0.001)


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    made = Harness()
    yield made
    await made.supervisor.stop()


async def test_every_actor_comes_up_and_the_router_hears_of_every_worker(harness: Harness):
    await harness.up()
    assert [member.worker_id for member in harness.members()] == ["worker-0", "worker-1"]
    assert {member.address for member in harness.members()} == {
        worker.address for worker in harness.supervisor.status.workers
    }


async def test_a_killed_worker_comes_back_with_a_higher_incarnation(harness: Harness):
    await harness.up()
    before = harness.supervisor.status.workers[0]
    harness.spawners.current("worker-0").die()
    await harness.until(
        lambda: harness.supervisor.status.workers[0].incarnation > before.incarnation
    )
    await harness.until(lambda: harness.supervisor.status.is_live)
    after = harness.supervisor.status.workers[0]
    assert after.deaths == 1
    assert after.incarnation > max(
        actor.incarnation for actor in harness.supervisor.status.actors if actor != after
    )


async def test_the_router_hears_of_a_death_before_the_membership_without_that_worker(
    harness: Harness,
):
    await harness.up()
    router = harness.spawners.current("router")
    router.calls.clear()
    harness.spawners.current("worker-1").die()
    await harness.until(lambda: len(router.calls) >= 2)
    assert router.calls[:2] == ["report_dead", "set_members"]
    assert router.dead == ["worker-1"]


async def test_an_engine_that_fails_leaves_its_reason(harness: Harness):
    await harness.up()
    harness.spawners.current("worker-0").fail("engine process ended with status 9")
    await harness.until(lambda: harness.supervisor.status.workers[0].deaths == 1)
    assert "status 9" in harness.supervisor.status.workers[0].reason
    assert harness.spawners.lives["worker-0"][0].is_killed


async def test_a_worker_told_to_end_is_unlisted_then_drains_and_comes_back(harness: Harness):
    await harness.up()
    router, worker = harness.spawners.current("router"), harness.spawners.current("worker-0")
    worker.is_drained.clear()
    worker.fail(TOLD_TO_END)
    await harness.until(lambda: worker.is_stopped and len(harness.members()) == 1)
    state = harness.supervisor.status.workers[0]
    assert (state.state, state.address) == (ActorState.DRAINING, "")
    # Its streams go on: nobody says that it is dead, and it counts as one that comes back.
    assert router.dead == []
    assert [one.worker_id for one in router.absent] == ["worker-0"]
    assert not worker.is_killed
    worker.is_drained.set()
    await harness.until(lambda: harness.supervisor.status.is_live)
    await harness.until(lambda: len(harness.members()) == 2)
    assert harness.spawners.current("worker-0").incarnation > worker.incarnation


async def test_a_worker_that_does_not_drain_in_time_is_cut_off():
    harness = Harness(settings=replace(SETTINGS, stop_timeout_s=0.01))
    await harness.up()
    worker = harness.spawners.current("worker-0")
    worker.is_drained.clear()
    worker.fail(TOLD_TO_END)
    await harness.until(lambda: worker.is_killed)
    await harness.until(lambda: harness.supervisor.status.is_live)
    await harness.supervisor.stop()


async def test_a_new_router_takes_over_the_port_and_gets_the_membership(harness: Harness):
    await harness.up()
    before = harness.supervisor.status.router
    harness.spawners.current("router").die()
    await harness.until(
        lambda: len(harness.spawners.lives["router"]) == 2 and len(harness.members()) == 2
    )
    assert harness.supervisor.status.router.address == before.address


async def test_restart_replaces_every_actor_and_sets_the_policy(harness: Harness):
    await harness.up()
    before = harness.supervisor.status
    await harness.supervisor.restart("random")
    await harness.until(lambda: harness.supervisor.status.is_live and len(harness.members()) == 2)
    after = harness.supervisor.status
    assert harness.spawners.policies == [None, "random"]
    assert after.router.address == before.router.address
    assert min(actor.incarnation for actor in after.actors) > max(
        actor.incarnation for actor in before.actors
    )
    for lives in harness.spawners.lives.values():
        assert lives[0].is_stopped
        assert lives[0].is_killed


async def test_a_worker_that_cannot_start_says_why_and_is_tried_again(harness: Harness):
    harness.spawners.start_errors["worker-1"] = "model is torn"
    harness.supervisor.start()
    await harness.until(lambda: harness.supervisor.status.workers[1].deaths >= 2)
    assert harness.supervisor.status.workers[1].reason == "model is torn"
    del harness.spawners.start_errors["worker-1"]
    await harness.until(lambda: harness.supervisor.status.is_live)


async def test_pauses_between_short_lives_grow_up_to_a_limit():
    pauses: list[float] = []
    enough = asyncio.Event()

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 30:
            enough.set()
            await asyncio.Event().wait()

    harness = Harness()
    harness.spawners.start_errors["router"] = "port in use"
    router = harness.supervisor._router
    router.open(record)
    await asyncio.wait_for(enough.wait(), 30)
    await router.close()
    assert pauses[:3] == [0.001, 0.002, 0.004]
    assert pauses == sorted(pauses)
    assert pauses[-1] == actor_slot.BACKOFF_MAX_S


async def test_a_stuck_actor_is_replaced(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actor_slot, "PING_EVERY_S", 0.001)
    monkeypatch.setattr(actor_slot, "PING_TIMEOUT_S", 0.01)
    await harness.up()
    harness.spawners.current("worker-0").is_stuck = True
    await harness.until(lambda: harness.supervisor.status.workers[0].deaths == 1)
    assert harness.spawners.lives["worker-0"][0].is_killed


async def test_an_actor_that_never_gets_a_process_is_spawned_again_and_no_death(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(actor_slot, "SPAWN_LIMIT_S", 0.01)
    harness = Harness()
    harness.spawners.unplaced = ["router", "worker-1"]
    await harness.up()
    assert [len(harness.spawners.lives[name]) for name in ("router", "worker-0", "worker-1")] == [
        2,
        1,
        2,
    ]
    assert harness.spawners.lives["router"][0].is_killed
    assert [actor.deaths for actor in harness.supervisor.status.actors] == [0, 0, 0]
    await harness.supervisor.stop()


@pytest.mark.parametrize("name", ["worker-1", "router"])
async def test_a_start_that_hangs_is_ended_counted_and_tried_again(name: str):
    """An engine stopped by a signal: the actor answers pings, its service never comes up."""
    harness = Harness(settings=replace(SETTINGS, start_timeout_s=0.05))
    harness.spawners.hanging = [name]
    await harness.up()
    hung, fresh = harness.spawners.lives[name]
    assert (hung.is_killed, fresh.is_killed) == (True, False)
    (status,) = (one for one in harness.supervisor.status.actors if one.name == name)
    assert status.deaths == 1
    assert status.reason == "it hung while starting: not up within 0.05 s"
    await harness.supervisor.stop()


async def test_the_router_is_told_which_workers_are_coming_up_and_why(harness: Harness):
    harness.spawners.start_errors["worker-1"] = "model is torn"
    harness.supervisor.start()
    router = await harness.live_router()
    await harness.until(lambda: len(harness.members()) == 1 and router.absent[0].deaths >= 2)
    (torn,) = router.absent
    assert (torn.worker_id, torn.why) == ("worker-1", Absence.RESTARTING)
    assert torn.reason == "model is torn"
    del harness.spawners.start_errors["worker-1"]
    await harness.until(lambda: len(harness.members()) == 2)
    assert router.absent == ()
    assert harness.members()[1].deaths == torn.deaths


async def test_a_worker_in_its_first_life_is_told_as_starting(harness: Harness):
    harness.spawners.hanging = ["worker-0"]
    harness.supervisor.start()
    router = await harness.live_router()
    await harness.until(lambda: len(harness.members()) == 1)
    assert [(one.worker_id, one.why) for one in router.absent] == [("worker-0", Absence.STARTING)]


async def test_closing_between_pings_never_waits_for_ever(monkeypatch: pytest.MonkeyPatch):
    """`asyncio.wait_for` of Python 3.11 swallows a cancellation that meets a finished call."""
    monkeypatch.setattr(actor_slot, "PING_EVERY_S", 0.0)
    for turns in range(30):
        harness = Harness()
        await harness.up()
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(harness.supervisor.stop(), 30)


async def test_a_restarted_controller_adopts_the_living_and_replaces_the_dead():
    first = Harness()
    await first.up()
    before = first.supervisor.status
    first.spawners.current("worker-1").kill()
    for slot in (first.supervisor._router, *first.supervisor._workers):
        assert slot._task is not None
        slot._task.cancel()  # what kill -9 of the controller does to its tasks
    second = Harness(first.store, first.spawners)
    await second.up()
    after = second.supervisor.status
    assert after.router.incarnation == before.router.incarnation
    assert after.workers[0].incarnation == before.workers[0].incarnation
    assert after.workers[1].incarnation > before.workers[1].incarnation
    assert [len(second.spawners.lives[name]) for name in ("router", "worker-0", "worker-1")] == [
        1,
        1,
        2,
    ]
    await second.supervisor.stop()


async def test_after_stop_nothing_lives(harness: Harness):
    await harness.up()
    await harness.supervisor.stop()
    assert all(actor.state is ActorState.STOPPED for actor in harness.supervisor.status.actors)
    assert all(life.is_killed for lives in harness.spawners.lives.values() for life in lives)


async def test_check_finds_an_incarnation_that_was_never_issued(harness: Harness):
    await harness.up()
    harness.ledger.last_incarnation = 0
    with pytest.raises(BrokenInvariant):
        harness.supervisor.check()
    harness.ledger.last_incarnation = 3
