"""A worker that loses the end of a request: its heartbeats do not count it, and it is asked.

Heartbeats and outputs come by different roads, so a heartbeat alone ends nothing: the answer does,
which comes behind all that was sent before.
"""

import pytest

from radixroute.events.wire.records import LoadReport, SessionLoad
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.messages.actions import Failure, Inquire
from tests.router.clusters import PROMPT, all_live, assert_whole, cluster, collect, until
from tests.router.clusters import request as asked_for
from tests.router.fakes import FakeWorker
from tests.router.worlds import MS, S, World, request


def counted(world: World, name: str) -> int:
    return world.core.snapshot().counters[name]


def asked(world: World) -> list[str]:
    return [told for told in world.log if told.startswith(Inquire.__name__)]


def beat(world: World, w: str, *, acknowledged: int, in_flight: int) -> None:
    load = LoadReport(0.0, 1000, 10, (SessionLoad("me", acknowledged, in_flight, 0, 0),))
    world.do(world.core.heartbeat(WorkerId(w), load, world.now_ns))


def runs_to_a_lost_end(world: World, name: str, n: int = 3) -> str:
    """Where it ran."""
    world.submit(request(name, n=n))
    (w,) = (w for w in world.workers if name in world.on(w))
    world.workers[w].loses_ends = True
    for _ in range(n):
        world.step(w)
    assert name not in world.on(w)
    assert world.clients[name].got == n - 1
    return w


def test_a_request_whose_end_its_worker_lost_goes_on_elsewhere():
    world = World("a", "b")
    w = runs_to_a_lost_end(world, "r")
    world.pass_time(2 * S)
    (other,) = {"a", "b"} - {w}
    assert world.on(other) == ["r"]
    world.step(other)
    client = world.clients["r"]
    assert (client.end, client.got) == (FinishReason.LENGTH, 3)
    assert counted(world, "attempts_lost_by_workers") == 1
    assert counted(world, "requests_resumed") == 1
    assert world.core.snapshot().counters["workers_died"] == 0


def test_the_only_worker_gets_it_again_and_the_second_loss_ends_it():
    world = World("a")
    runs_to_a_lost_end(world, "r")
    world.pass_time(2 * S)
    assert world.on("a") == ["r"]
    world.step("a")
    world.pass_time(2 * S)
    assert world.clients["r"].end is Failure.TOO_MANY_DEATHS
    assert counted(world, "attempts_lost_by_workers") == 2
    assert not len(world.core._state.loads)


def test_it_is_found_among_others_that_run_and_they_go_on():
    world = World("a", seats=8, queue=8)
    for name in ("long", "longer"):
        world.submit(request(name, n=50))
    runs_to_a_lost_end(world, "r")
    world.workers["a"].loses_ends = False
    world.pass_time(2 * S)
    assert sorted(world.on("a")) == ["long", "longer", "r"]
    world.settle()
    assert {client.end for client in world.clients.values()} == {FinishReason.LENGTH}
    assert counted(world, "attempts_lost_by_workers") == counted(world, "requests_resumed") == 1


def test_an_end_that_is_only_on_its_way_ends_the_request_whatever_heartbeats_say():
    """Asked in vain: the answer stands behind the end."""
    world = World("a", "b")
    world.submit(request("r", n=2))
    (w,) = (w for w in "ab" if world.on(w))
    world.workers[w].late = []
    world.step(w)
    world.step(w)
    world.pass_time(5 * S)
    assert len(asked(world)) >= 2
    assert world.clients["r"].got == 0
    world.arrive(w)
    client = world.clients["r"]
    assert (client.end, client.got) == (FinishReason.LENGTH, 2)
    assert counted(world, "attempts_lost_by_workers") == counted(world, "requests_resumed") == 0


def test_what_was_just_sent_there_is_not_asked_for():
    world = World("a")
    world.submit(request("r"))
    for _ in range(40):
        world.now_ns += 100 * MS
        beat(world, "a", acknowledged=0, in_flight=0)
    assert not asked(world)


def test_nothing_is_asked_while_the_numbers_agree_or_differ_for_a_moment():
    world = World("a")
    for name in "rs":
        world.submit(request(name))
    for n in range(60):
        world.now_ns += 250 * MS
        beat(world, "a", acknowledged=2, in_flight=2 if n % 4 == 0 else 1)
    assert not asked(world)
    # More than there are: those that were given up here and still run there.
    beat(world, "a", acknowledged=2, in_flight=9)
    world.abort("r")
    beat(world, "a", acknowledged=2, in_flight=2)
    assert not asked(world)


def test_it_is_asked_once_a_second_for_all_that_it_acknowledged():
    world = World("a")
    world.workers["a"].late = []  # no answer arrives
    for name in "rst":
        world.submit(request(name))
    for _ in range(41):
        world.now_ns += 100 * MS
        beat(world, "a", acknowledged=2, in_flight=1)
    assert len(asked(world)) == 4
    assert all("'r'" in told and "'s'" in told and "'t'" not in told for told in asked(world))
    assert counted(world, "attempts_asked_for") == 8


def test_a_heartbeat_that_lies_costs_no_request_anything():
    world = World("a", "b")
    world.submit(request("r"))
    (w,) = (w for w in "ab" if world.on(w))
    for _ in range(50):
        world.now_ns += 100 * MS
        beat(world, w, acknowledged=10**9, in_flight=0)
    assert asked(world)
    assert world.on(w) == ["r"]
    world.settle()
    assert world.clients["r"].end is FinishReason.LENGTH
    assert counted(world, "attempts_lost_by_workers") == counted(world, "requests_resumed") == 0


def test_a_lease_is_no_request_that_it_could_be_asked_for():
    world = World("a", lease_unseen_s=30.0)
    assert world.route(request("direct"), "lease")
    world.submit(request("r"))
    for _ in range(40):
        world.now_ns += 100 * MS
        beat(world, "a", acknowledged=1, in_flight=1)
    assert not asked(world)


def test_a_new_life_is_not_asked_for_what_the_last_one_owed():
    world = World("a")
    runs_to_a_lost_end(world, "r", n=4)
    world.pass_time(500 * MS)
    world.kill("a")
    world.revive("a")
    world.workers["a"].loses_ends = False
    assert world.on("a") == ["r"]
    world.pass_time(600 * MS)
    assert not asked(world)
    world.settle()
    assert world.clients["r"].end is FinishReason.LENGTH


@pytest.mark.parametrize("n", [1, 7])
def test_every_lost_end_is_found_at_once(n):
    world = World("a", "b", seats=16, queue=16)
    for k in range(n):
        world.submit(request(f"r{k}", n=1, policy="round_robin"))
    for w in "ab":
        world.workers[w].loses_ends = True
        world.step(w)
        world.workers[w].loses_ends = False
    world.pass_time(1500 * MS)
    assert counted(world, "attempts_lost_by_workers") == n
    world.settle()
    assert {client.end for client in world.clients.values()} == {FinishReason.LENGTH}


async def test_over_the_wire_a_stream_whose_end_was_lost_comes_out_whole():
    worker = FakeWorker("a", loses_ends=1)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        messages = await collect(router.Generate(asked_for(n=6)))
        assert_whole(messages, PROMPT, 6)
        assert messages[-1].usage.attempts == 2
        counters = service.runtime.core.snapshot().counters
        assert counters["attempts_lost_by_workers"] == 1
