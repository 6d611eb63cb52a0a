"""The last request of a session: from both doors to the worker, and what is refused."""

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.limits import MOST_SESSION_REQUESTS
from radixroute.router.counters import Count
from tests.router.clusters import all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker
from tests.router.http.wire import CHATS, COMPLETIONS, IDS, MESSAGES, ask, chatting


def told(service) -> int:
    return int(service.runtime.core._state.counters[Count.SESSIONS_ENDED])


async def test_it_goes_to_the_worker_and_is_counted():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        for last_of in (3, 0, MOST_SESSION_REQUESTS):
            await collect(router.Generate(request(n=1, last_of_session=last_of)))
        assert [one.last_of_session for one in worker.seen] == [3, 0, MOST_SESSION_REQUESTS]
        assert told(service) == 2


async def test_each_of_several_answers_says_so():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        asked = request(n=1, last_of_session=2)
        asked.sampling.n = 3
        await collect(router.Generate(asked))
        assert [one.last_of_session for one in worker.seen] == [2, 2, 2]
        assert told(service) == 1


async def test_what_is_no_count_is_refused_with_what_to_send():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        for call in (
            collect(router.Generate(request(last_of_session=MOST_SESSION_REQUESTS + 1))),
            router.Route(
                pb.RouteRequest(request=request(last_of_session=MOST_SESSION_REQUESTS + 1))
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            details = raised.value.details() or ""
            assert "last_of_session" in details
            assert "how many requests the session had" in details
        assert told(service) == 0


async def test_a_client_that_streams_directly_is_told_what_to_send_on():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        for last_of in (4, 0):
            wanted = pb.RouteRequest(request=request(last_of_session=last_of))
            routed = await router.Route(wanted)
            assert routed.last_of_session == last_of
            await router.Release(pb.ReleaseRequest(lease_id=routed.lease_id))


async def test_a_header_says_it_over_http():
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        body, chat = {"prompt": IDS, "max_tokens": 1}, {"messages": MESSAGES, "max_tokens": 1}
        await ask(service, COMPLETIONS, body, "X-Session-Id: s", "X-Session-Last: 7")
        await ask(service, CHATS, chat, "x-session-last: 2")
        await ask(service, COMPLETIONS, body, "X-Session-Id: s")
        assert [one.last_of_session for one in worker.seen] == [7, 2, 0]
        assert told(service) == 2


@pytest.mark.parametrize("said", ["0", "-1", "yes", "1.0", "²", "1000001", "9" * 400])
async def test_a_header_that_is_no_count_is_refused_with_what_to_send(said):
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        answer = await ask(service, COMPLETIONS, {"prompt": IDS}, f"X-Session-Last: {said}")
        assert answer.status == 400
        assert answer.json["error"]["param"] == "X-Session-Last"
        assert "how many requests the session had" in answer.json["error"]["message"]
        assert not worker.seen
