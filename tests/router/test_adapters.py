"""RouterCore: requests that name an adapter go to workers that serve it, and to no other."""

import random
from typing import Any

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.messages.actions import Failure
from radixroute.router.policy.registry import POLICIES
from tests.router.test_core_faults import give_up
from tests.router.worlds import MS, S, World, request, spec

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
    assert world.core.adapters == {"X", "Y"}
    world.kill("c")
    world.pass_time(10 * S)
    assert world.clients["waits"].end is None  # its worker is listed, and may be back
    world.do(world.core.set_members([spec("a")], world.now_ns))
    assert world.core.adapters == frozenset()
    world.pass_time(1 * S)
    assert {client.end for client in world.clients.values()} == {Failure.NO_WORKERS}
    assert world.core._state.members.get(WorkerId("a")) is not None
