"""RouterCore: requests that name an adapter go to workers that serve it, and to no other."""

import random
from typing import Any

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.scheduler import FRONT
from radixroute.router.messages.actions import Failure
from radixroute.router.messages.inputs import Absence, AbsentWorker
from radixroute.router.policy.registry import POLICIES
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.members import MOST_FORMER, Adapters, Members
from tests.router.test_core_faults import give_up
from tests.router.worlds import MS, S, Worker, World, facts, request, spec

ADAPTERS = {"b": ("X",), "c": ("X", "Y")}


def assert_served(world):
    for w in world.workers:
        for name in world.on(w):
            lora = world.clients[name].spec.scope.lora
            assert not lora or lora in ADAPTERS.get(w, ()), f"{name} ({lora}) is on {w}"


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_sends_them_where_their_adapter_is_served_and_all_end(policy):
    rng = random.Random(f"adapters/{policy}")
    world = World("a", "b", "c", adapters=ADAPTERS, seats=2, queue=1)
    for number in range(40):
        named: dict[str, Any] = {"policy": policy, "now_ns": world.now_ns}
        named |= rng.choice([{}, {"lora": "X"}, {"lora": "Y"}])
        world.submit(request(f"r{number}", rng.randrange(3), **named))
        assert_served(world)
        if rng.random() < 0.5:
            world.step(rng.choice("abc"))
            world.pass_time(20 * MS)
            assert_served(world)
        if number in {15, 30}:
            world.kill("c")
            world.pass_time(20 * MS)
            assert_served(world)
            world.revive("c")
    world.settle()
    ends = {client.end for client in world.clients.values()}
    assert ends <= {FinishReason.LENGTH, Failure.TOO_MANY_DEATHS}
    assert FinishReason.LENGTH in ends


@pytest.mark.parametrize("policy", ["radix", "round_robin"])
def test_who_waits_for_an_adapter_holds_nobody_else_back(policy):
    world = World("a", "c", adapters=ADAPTERS, seats=1, queue=1)
    for number in range(3):
        world.submit(request(f"y{number}", policy=policy, lora="Y"))
    assert world.core.n_waiting >= 1
    world.submit(request("goes", policy=policy))
    assert world.on("a") == ["goes"]
    world.settle()
    assert {client.end for client in world.clients.values()} == {FinishReason.LENGTH}


def test_a_second_try_goes_to_a_worker_that_serves_it_too():
    world = World("a", "b", "c", adapters=ADAPTERS)
    world.submit(request("r", lora="Y", n=2))
    give_up(world, "c", "r", 1, FinishReason.ERROR)
    assert world.on("c") == ["r"]  # again: there is no other
    world.settle()
    assert world.clients["r"].end is FinishReason.LENGTH


def test_of_two_workers_that_do_not_serve_it_explain_says_so():
    world = World("a", "b", "c", adapters=ADAPTERS)
    world.submit(request("r", lora="Y"))
    (decision,) = world.core.logged("r").decisions
    assert [(e.worker_id, e.because) for e in decision.view.excluded] == [
        ("a", "it does not serve the adapter 'Y'"),
        ("b", "it does not serve the adapter 'Y'"),
    ]


def test_whose_adapter_nobody_serves_any_more_ends_soon_and_cleanly():
    world = World("a", "c", adapters=ADAPTERS, seats=1)
    for name in ("runs", "waits"):
        world.submit(request(name, lora="Y"))
    assert world.core.adapters == Adapters(frozenset("XY"), may_be_any=False, needs=frozenset("XY"))
    world.kill("c")
    world.pass_time(10 * S)
    assert world.clients["waits"].end is None  # its worker is listed, and may be back
    world.do(world.core.set_members([spec("a")], world.now_ns))
    assert world.core.adapters == Adapters(frozenset(), may_be_any=False)
    world.pass_time(1 * S)
    assert {client.end for client in world.clients.values()} == {Failure.NO_WORKERS}
    assert world.core._state.members.get(WorkerId("a")) is not None


def is_held(world: World, name: str) -> bool:
    """As long as others are, who wait for a worker."""
    world.pass_time(60 * S)
    return world.clients[name].end is None


def test_an_adapter_is_waited_for_while_its_only_worker_is_brought_up_again():
    world = World("a", "c", adapters=ADAPTERS)
    world.kill("c")
    world.do(world.core.set_members([spec("a")], world.now_ns))
    world.core.set_absent([AbsentWorker(WorkerId("c"), Absence.RESTARTING)])
    assert world.core.adapters.may_serve("Y")
    world.submit(request("r", lora="Y"))
    assert is_held(world, "r")
    world.core.set_absent([])
    world.do(world.core.set_members([spec("a"), spec("c", 2)], world.now_ns))
    assert world.core.adapters.may_serve("Y")  # it is joining
    assert is_held(world, "r")
    world.revive("c")
    assert world.on("c") == ["r"]


def test_one_that_no_worker_on_its_way_is_known_for_is_not_waited_for():
    world = World("a", "c", adapters=ADAPTERS)
    world.kill("c")
    world.do(world.core.set_members([spec("a")], world.now_ns))
    world.core.set_absent([AbsentWorker(WorkerId("c"), Absence.RESTARTING)])
    assert not world.core.adapters.may_serve("Z")
    world.submit(request("r", lora="Z"))
    world.pass_time(11 * S)
    assert world.clients["r"].end is Failure.NO_WORKERS


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_worker_that_has_said_nothing_yet_may_serve_any_adapter_until_it_has(is_listed):
    world = World("a", adapters={"n": "Y"})
    world.workers["n"] = Worker()
    if is_listed:
        world.do(world.core.set_members([spec("a"), spec("n")], world.now_ns))
    else:
        world.core.set_absent([AbsentWorker(WorkerId("n"), Absence.STARTING)])
    world.submit(request("r", lora="Y"))
    world.submit(request("odd", lora="Z"))
    assert is_held(world, "r")
    assert world.core.adapters.may_serve("Z")
    world.core.set_absent([])
    world.do(world.core.set_members([spec("a"), spec("n")], world.now_ns))
    world.join("n")
    world.pass_time(1 * S)
    assert world.on("n") == ["r"]
    assert world.clients["odd"].end is Failure.NO_WORKERS


def test_a_worker_that_does_not_fit_the_fleet_is_waited_for_by_nobody():
    world = World("a")
    world.do(world.core.set_members([spec("a"), spec("n")], world.now_ns))
    assert world.core.adapters.may_serve("Y")
    world.core.refused(WorkerId("n"), "another model")
    assert not world.core.adapters.may_serve("Y")


def test_what_workers_served_that_left_is_remembered_of_so_many():
    members = Members(WorkerColumns())
    for number in range(MOST_FORMER + 1):
        member = members.add(spec(f"w{number}"))
        members.accept(member, facts(f"w{number}", adapters="X"))
        members.forget(member.spec.worker_id)
    members.check()
    assert members.adapters_of(WorkerId("w0")) is None
    assert members.adapters_of(WorkerId("w1")) == frozenset("X")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("is_away", [True, False])
def test_more_than_a_front_of_those_who_wait_for_one_adapter_holds_nobody_back(policy, is_away):
    """Their only worker is being brought up, or has no seat: others have workers that idle."""
    world = World("a", "b", "c", adapters=ADAPTERS, seats=1, queue=1)
    if is_away:
        world.kill("c")
    for number in range(FRONT + 9):
        world.submit(request(f"y{number}", policy=policy, lora="Y"))
    assert world.core.n_waiting > FRONT
    world.submit(request("x", policy=policy, lora="X"))
    world.submit(request("plain", policy=policy))
    assert sorted(world.on("a") + world.on("b")) == ["plain", "x"]


def test_who_lost_the_worker_of_an_adapter_holds_no_other_loser_back():
    world = World("a", "c", adapters=ADAPTERS)
    for number in range(FRONT + 9):
        world.submit(request(f"y{number}", lora="Y"))
    world.submit(request("plain"))
    where = "a" if "plain" in world.on("a") else "c"
    world.kill("c")
    if where == "a":
        give_up(world, "a", "plain", 1, FinishReason.ABORT)
    assert world.on("a") == ["plain"]


def test_who_needs_no_plan_waits_behind_one_whose_adapters_workers_are_busy():
    """It would keep their seats taken; but not behind one whose workers are away."""
    world = World("a", "c", adapters=ADAPTERS, seats=1, queue=8)
    for name in ("runs", "waits"):
        world.submit(request(name, policy="radix", lora="Y"))
    world.submit(request("behind", policy="round_robin"))
    assert "behind" not in world.on("a") + world.on("c")
    world.kill("c")
    world.pass_time(100 * MS)
    assert world.on("a") == ["behind"]
