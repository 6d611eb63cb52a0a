"""RouterCore with streams that another router began."""

import random

import pytest
from msgspec.structs import replace

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.requests import ATTEMPTS_A_RESUME
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Dispatch, Failure
from radixroute.router.messages.inputs import PackedTokens, RequestSpec, Resumed
from tests.router.worlds import S, World, packed, request, spec, token


def resumed(request_id: str, have: int, number: int = 1, **more) -> RequestSpec:
    asked = request(request_id, **more)
    emitted = packed(*(token(request_id, position) for position in range(have)))
    return replace(asked, resumed=Resumed(PackedTokens(emitted), have, number))


def counters(world):
    return world.core._state.counters


def test_who_lost_a_router_waits_before_all_who_come_anew_and_counts_as_no_new_request():
    world = World("a", seats=1, queue=1, max_waiting=2)
    for name in ("r0", "r1", "r2", "r3"):
        world.submit(request(name, n=9))
    assert world.core.n_waiting == 2
    world.core.submit(resumed("old", 3, n=9), world.now_ns)
    front = world.core._state.waiting.front(world.now_ns, 8)
    assert [one.request_id for one in front.lost] == ["old"]
    assert counters(world)[Count.QUEUE_OVERFLOWED] == 0
    world.core.check()


def test_what_a_resume_has_is_not_computed_and_its_prompt_not_counted_again():
    world = World("a")
    actions = world.core.submit(resumed("old", 3, number=2, n=9), world.now_ns)
    (dispatch,) = actions
    assert isinstance(dispatch, Dispatch)
    assert dispatch.attempt == 2 * ATTEMPTS_A_RESUME + 1
    assert (dispatch.emitted_text_len, len(dispatch.emitted)) == (3, 12)
    one = world.core._state.requests.get("old")
    assert one is not None
    assert one.position == 3
    assert one.is_counted
    assert one.usage().attempts == 1
    assert world.core._state.hits.of(WorkerId("a")).requests == 0


def test_the_time_of_an_ended_stream_does_not_end_its_resume():
    world = World("a")
    world.submit(request("r", n=9, deadline_ns=world.now_ns + S))
    world.core.abort("r", world.now_ns)
    world.core.submit(resumed("r", 1, n=9, deadline_ns=world.now_ns + 60 * S), world.now_ns)
    world.core.tick(world.now_ns + 2 * S)
    assert "r" in world.core._state.requests
    assert counters(world)[Count.DEADLINES_PASSED] == 0
    world.core.check()


def lose_router(world: World) -> None:
    """Another one comes up, knowing nothing, and every client goes on there."""
    known, world.clients = world.clients, {}
    for worker in world.workers.values():
        worker.running.clear()
    world.core = RouterCore(world.settings, world.index, random.Random(1))
    world.do(world.core.set_members([spec(w) for w in world.workers], world.now_ns))
    for w, worker in world.workers.items():
        if worker.is_up:
            world.join(w)
    for request_id, client in known.items():
        world.clients[request_id] = client
        if client.end is None:
            lost = client.spec.resumed
            number = 1 if lost is None else lost.number + 1
            client.spec = replace(
                client.spec, resumed=resumed(request_id, client.got, number).resumed
            )
            world.do(world.core.submit(client.spec, world.now_ns))


@pytest.mark.parametrize(
    "seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(10, 25))]
)
def test_streams_are_whole_however_often_routers_and_workers_die(seed):
    rng, world = random.Random(seed), World("a", "b", "c", seed=seed)
    n_resumed = 0
    for turn in range(80):
        w = rng.choice("abc")
        match rng.randrange(8):
            case 0 | 1:
                world.submit(request(f"{turn:04d}", rng.randrange(3), n=8, now_ns=world.now_ns))
            case 2 | 3 | 4:
                world.step(w)
            case 5:
                world.deliver(w, world.workers[w].last)  # late, of a router that is gone
            case 6:
                world.kill(w) if rng.random() < 0.3 else world.revive(w)
            case 7:
                n_resumed += sum(client.end is None for client in world.clients.values())
                lose_router(world)
    world.settle()
    ends = {client.end for client in world.clients.values()}
    assert ends <= {FinishReason.LENGTH, Failure.TOO_MANY_DEATHS}
    assert FinishReason.LENGTH in ends
    assert n_resumed > 0
    assert len(world.core._state.requests) == len(world.core._state.loads) == 0
