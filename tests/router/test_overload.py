"""Overload over real gRPC: every call has an answer of ours, and is told when to come back."""

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.api.grpc.server import RouterServer
from radixroute.router.errors import ClientUnread
from tests.router.clusters import PROMPT, all_live, cluster, collect, request, settings, until
from tests.router.fakes import FakeWorker


async def outcome(call) -> tuple[grpc.StatusCode, grpc.aio.AioRpcError | None]:
    try:
        await collect(call)
    except grpc.aio.AioRpcError as error:
        return error.code(), error
    return grpc.StatusCode.OK, None


async def test_a_full_house_answers_at_once_and_says_when_to_come_back():
    worker = FakeWorker("a", hold_after=1)
    async with cluster(worker, max_in_flight=5) as (service, router, _):
        await until(lambda: all_live(service))
        calls = [router.Generate(request([*PROMPT, n])) for n in range(5)]
        running = [asyncio.create_task(collect(call)) for call in calls]
        await until(lambda: service.runtime.core.n_running == 5)
        refused = [await outcome(router.Generate(request([9, *PROMPT, n]))) for n in range(20)]
        assert {code for code, _ in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        error = refused[-1][1]
        assert error is not None
        trailing = dict(error.trailing_metadata() or ())
        assert int(trailing["grpc-retry-pushback-ms"]) >= 100
        status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        info = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert info.retry_delay.ToMilliseconds() == int(trailing["grpc-retry-pushback-ms"])
        assert service.runtime.core.snapshot().counters["requests_refused_queue_full"] == 20
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await until(lambda: service.runtime.core.n_running == 0)
        assert len(service.runtime.core._state.admission) == 0


async def test_two_thousand_calls_at_once_are_all_answered_by_us():
    """gRPC's own limit cancelled all above a thousand, uncounted (R3)."""
    workers = [FakeWorker(w) for w in "ab"]
    async with cluster(*workers, max_in_flight=300) as (service, router, _):
        await until(lambda: all_live(service))
        calls = [router.Generate(request([*PROMPT, n % 100], n=2)) for n in range(2000)]
        ends = await asyncio.gather(*(outcome(call) for call in calls))
        codes = Counter(code for code, _ in ends)
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert codes[grpc.StatusCode.OK] >= 300
        counters = service.runtime.core.snapshot().counters
        assert counters["requests_finished"] == codes[grpc.StatusCode.OK]
        assert counters["requests_refused_queue_full"] == codes[grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_a_request_that_cannot_be_read_leaves_the_house():
    async with cluster(FakeWorker("a"), max_in_flight=2) as (service, router, _):
        await until(lambda: all_live(service))
        for _ in range(5):
            code, _ = await outcome(router.Generate(pb.GenerateRequest()))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(service.runtime.core._state.admission) == 0


@pytest.mark.parametrize(
    ("more", "changes", "words"),
    [
        ({"policy": "round_robin"}, {"client_policies": "radix, random"}, "may not name"),
        ({"priority": 10}, {}, "priority"),
        ({"tenant": "t" * 129}, {}, "tenant"),
    ],
)
async def test_what_a_client_may_not_ask_for_is_refused_by_name(more, changes, words):
    async with cluster(FakeWorker("a"), **changes) as (service, router, _):
        await until(lambda: all_live(service))
        code, error = await outcome(router.Generate(request(**more)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert error is not None
        assert words in (error.details() or "")
        assert (await outcome(router.Generate(request(policy=""))))[0] is grpc.StatusCode.OK


async def test_a_lease_that_nobody_wants_any_more_is_not_granted_later():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        await worker.kill()
        await until(lambda: not all_live(service))
        call = router.Route(pb.RouteRequest(request=request()))
        await until(lambda: service.runtime.core.n_waiting == 1)
        call.cancel()
        await until(lambda: service.runtime.core.n_running == 0)
        assert len(service.runtime.core._state.admission) == 0
        assert service.runtime.core.snapshot().leases == 0


async def test_a_client_that_reads_nothing_gives_its_answer_up():
    class Unread:
        async def write(self, message):
            await asyncio.Event().wait()

    class Answers:
        async def take(self):
            return b"more"

    changed = settings(client_unread_timeout_s=0.05)
    async with cluster() as (service, _, _):
        server = RouterServer(service.reception, changed)
        answers: Any = Answers()
        reads_nothing: Any = Unread()
        with pytest.raises(ClientUnread):
            await server._answer(answers, reads_nothing)
        assert service.runtime.core.snapshot().counters["requests_given_up_unread"] == 1
