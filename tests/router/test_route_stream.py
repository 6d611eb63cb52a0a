"""Routes and releases over one stream: each has its answer, and its fault is nobody else's."""

import asyncio

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import unpack_tokens
from radixroute.router.api.grpc import leases
from tests.router.clusters import PROMPT, all_live, cluster, request, states, until
from tests.router.fakes import FakeWorker


def routing(number: int, **more) -> pb.RouteStreamRequest:
    return pb.RouteStreamRequest(number=number, route=pb.RouteRequest(request=request(**more)))


def releasing(number: int, lease_id: str) -> pb.RouteStreamRequest:
    return pb.RouteStreamRequest(number=number, release=pb.ReleaseRequest(lease_id=lease_id))


async def ended(call) -> list[pb.RouteStreamResponse]:
    await call.done_writing()
    answers = []
    while (message := await call.read()) is not grpc.aio.EOF:
        answers.append(message)
    return answers


async def test_a_stream_routes_and_releases_as_calls_do():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.RouteStream()
        await call.write(routing(7))
        first = await call.read()
        alone = await router.Route(pb.RouteRequest(request=request()))
        routed = first.route
        assert (first.number, routed.worker_id, routed.address) == (7, "a", alone.address)
        assert unpack_tokens(routed.token_ids).tolist() == PROMPT
        assert (routed.ttl_ms, routed.scope) == (alone.ttl_ms, alone.scope)
        assert routed.lease_id != alone.lease_id
        await call.write(releasing(8, routed.lease_id))
        await call.write(releasing(9, routed.lease_id))
        told = {one.number: one.release.released for one in await ended(call)}
        assert told == {8: True, 9: False}
        assert service.runtime.core.n_running == 0


async def test_many_at_once_have_an_answer_each():
    async with cluster(FakeWorker("a"), FakeWorker("b")) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.RouteStream()
        for number in range(50):
            await call.write(routing(number, prompt=[20 + number, *PROMPT]))
        answers = [await call.read() for _ in range(8)]  # no more seats: the others wait for these
        while len(answers) < 50:
            await call.write(releasing(1000, answers[-1].route.lease_id))
            got = [await call.read(), await call.read()]
            answers += [one for one in got if one.HasField("route")]
        assert sorted(one.number for one in answers) == list(range(50))
        for one in answers:
            assert unpack_tokens(one.route.token_ids).tolist() == [20 + one.number, *PROMPT]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (routing(3, prompt=[399_999]), grpc.StatusCode.INVALID_ARGUMENT),
        (routing(3, model="another"), grpc.StatusCode.NOT_FOUND),
        (routing(3, resume=pb.StreamResume(request_id="x")), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.RouteStreamRequest(number=3), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["no token", "no such model", "a resume", "nothing"],
)
async def test_what_is_wrong_with_one_message_ends_nothing_else(message, code):
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.RouteStream()
        await call.write(message)
        failed = await call.read()
        assert (failed.number, failed.failure.code) == (3, code.value[0])
        assert "(request " in failed.failure.message
        await call.write(routing(4))
        assert (await call.read()).route.worker_id == "a"
        assert await ended(call) == []


async def test_a_giant_is_read_beside_the_loop_and_its_number_comes_back():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.RouteStream()
        text = pb.GenerateRequest(text="hello world " * 40_000)
        await call.write(pb.RouteStreamRequest(number=5, route=pb.RouteRequest(request=text)))
        failed = await call.read()
        # Read, and too long for the model: none of it is in the answer.
        assert (failed.number, failed.failure.code) == (5, 3)
        assert "hello" not in failed.failure.message


async def test_who_leaves_waits_for_nothing_any_more():
    worker = FakeWorker("a")
    async with cluster(worker, no_worker_wait_s=600.0) as (service, router, _):
        await until(lambda: all_live(service))
        service.set_members([])  # what is served is known, and nobody takes it
        await until(lambda: not states(service))
        call = router.RouteStream()
        await call.write(routing(1))
        await until(lambda: service.reception.n_open == 1)
        call.cancel()
        await until(lambda: not service.reception.n_open)
        assert service.runtime.core.n_running == 0


async def test_who_takes_no_answers_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(leases, "MOST_OPEN", 4)

    async def messages():
        for number in range(100):
            asked.append(number)
            yield releasing(number, "x").SerializeToString()

    async with cluster() as (service, _, _):
        asked: list[int] = []
        desk = leases.LeaseDesk(service.reception, service._settings)
        stream = leases.RouteStream(desk, service.reception, "")
        reading = asyncio.create_task(stream.read(messages()))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(asked) == 4
        answers = [await stream.take() for _ in range(101)]
        assert [one and one.number for one in answers] == [*range(100), None]
        await reading
