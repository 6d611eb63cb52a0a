"""Program pausing: programs stay together while they fit, wait when they do not; replays only."""

import random

import numpy as np
import pytest

from radixroute.deploy.errors import ConfigError
from radixroute.deploy.settings import ClusterSettings, check_startable
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.lab import LabSettings
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.prefixes import Bursts
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.workloads import synthesize
from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.registry import LAB_POLICIES, POLICIES, policy_named
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from tests.router import test_core_property
from tests.router.worlds import MS, S, World, request

NAME = "program_pausing"


def ask(world, name, session, tokens=160, n=1):
    """`tokens` of a prompt that nobody shares."""
    made = request(name, blocks=tokens // 16, shared=0, policy=NAME, session=session, n=n)
    return world.submit(made)


def where(world, name):
    found = [w for w in world.workers if name in world.on(w)]
    assert len(found) <= 1
    return found[0] if found else None


def until_idle(world):
    while any(worker.running for worker in world.workers.values()):
        for w in world.workers:
            world.step(w)


def test_a_program_stays_on_its_worker_and_another_goes_to_the_roomier_one():
    world = World("a", "b")
    ask(world, "x1", 1, tokens=4_000)
    home = where(world, "x1")
    ask(world, "y1", 2, tokens=160)
    assert where(world, "y1") not in (None, home)
    until_idle(world)
    for turn in range(2, 6):
        ask(world, f"x{turn}", 1, tokens=4_000)
        assert where(world, f"x{turn}") == home
        until_idle(world)


def test_a_new_program_waits_until_the_others_leave_room():
    world = World("a")
    ask(world, "first", 1, tokens=9_600, n=3)
    second = ask(world, "second", 2, tokens=9_600)
    assert (where(world, "first"), where(world, "second")) == ("a", None)
    world.pass_time(20 * S)
    assert where(world, "second") is None  # the first one still reasons
    until_idle(world)
    assert where(world, "second") is None  # and has only just begun to act
    world.pass_time(6 * S)
    assert where(world, "second") == "a"
    until_idle(world)
    assert second.end is not None


def test_whoever_was_there_goes_before_new_ones_and_who_needs_less_before_the_others():
    world = World("a")
    ask(world, "old", 1, tokens=9_000)
    until_idle(world)
    ask(world, "big", 2, tokens=15_000, n=9)
    world.pass_time(6 * S)  # what acts has weight no more: it fits beside it
    assert where(world, "big") == "a"
    ask(world, "old2", 1, tokens=9_000, n=2)  # its worker holds too much now: it is to be paused
    world.pass_time(6 * S)
    ask(world, "new", 3, tokens=9_000)
    ask(world, "newer", 4, tokens=8_000)
    until_idle(world)
    ask(world, "old3", 1, tokens=9_000)
    assert where(world, "old3") is None  # paused when its request had ended
    order = list[str]()
    for _ in range(80):
        world.pass_time(500 * MS)
        order += [one for one in ("new", "newer", "old3") if one in world.on("a")]
        world.step("a")
    assert order == ["old3", "newer", "new"]


def test_a_worker_that_holds_too_much_pauses_the_shortest_that_act():
    """Seen in a replay: they come back elsewhere, and waited; others never move."""
    shape = Agents(requests=400, programs_per_s=0.6, groups=4)
    trace = synthesize("agents", 3, shape)
    run = simulate(trace, NAME, Scenario(FleetShape(2, 8192, 64)))
    waited = run.decided_ns > run.arrival_ns
    moved = [len(np.unique(run.worker[trace.programs == one])) > 1 for one in range(20)]
    assert 0.02 < waited.mean() < 0.9
    assert any(moved)
    ample = simulate(trace, NAME, Scenario(FleetShape(2, 1 << 17, 64)))
    homes = {(int(p), int(w)) for p, w in zip(trace.programs, ample.worker, strict=True)}
    assert len(homes) == trace.programs.max() + 1
    assert (ample.decided_ns == ample.arrival_ns).all()


def test_requests_without_a_session_are_programs_alone():
    trace = synthesize("bursts", 3, Bursts(requests=200))
    run = simulate(trace, NAME, Scenario(FleetShape(3, 4096, 64), speed=4.0))
    assert (run.finish_ns > 0).all()
    assert np.bincount(run.worker, minlength=3).min() > 0.2 * len(trace)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_every_request_ends_once(seed, monkeypatch):
    monkeypatch.setattr(test_core_property, "POLICIES", {NAME: None, "radix": None})
    world = test_core_property.fresh_run(seed)
    assert all(client.end is not None for client in world.clients.values())
    state = world.core._state
    assert len(state.requests) == len(state.loads) == len(state.waiting) == len(state.leases) == 0


def test_no_router_serves_by_a_policy_of_replays_and_replays_do():
    assert NAME not in POLICIES
    for refuse in (
        lambda: policy_named(NAME),
        lambda: RouterService(RouterSettings(policy=NAME)),
    ):
        with pytest.raises(UnknownPolicy, match="for replays only"):
            refuse()
    with pytest.raises(ConfigError, match="for replays only"):
        check_startable(ClusterSettings(router=RouterSettings(policy=NAME)))
    assert LabSettings(policies=("all",)).chosen.count(NAME) == 0
    assert LabSettings(policies=(NAME,)).chosen == (NAME,)
    with pytest.raises(UnknownPolicy, match=NAME):  # they say what there is
        LabSettings(policies=("program_pauses",))
    assert set(LAB_POLICIES) == {*POLICIES, NAME}


def test_the_seeds_of_the_world_do_pause():
    """A property that never meets a paused program proves nothing."""
    rng, world = random.Random(1), World("a", "b")
    waited = 0
    for turn in range(120):
        ask(world, f"{turn}", rng.randrange(12), tokens=16 * rng.randrange(40, 500), n=2)
        waited += len(world.core._state.waiting)
        world.step(rng.choice("ab"))
        world.pass_time(rng.choice((100, 900)) * MS)
    assert waited > 50
    world.settle()
    assert all(client.end is not None for client in world.clients.values())
