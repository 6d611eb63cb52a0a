"""Streams that clients go on with at a router: whose they are, what is fenced, what is refused."""

import random
from typing import Any

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.router.api.request_ids import RequestIds
from radixroute.router.service import RouterService
from tests.router.clusters import PROMPT, all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker, answer

N = 40


def resume_of(first: pb.GenerateResponse, have: int, number: int = 1, **more):
    """What a client sends that has `have` tokens of a stream whose first message was this."""
    asked = request(n=N, **more)
    asked.sampling.CopyFrom(first.sampling)
    asked.resume.request_id = first.request_id
    asked.resume.emitted_token_ids = pack_tokens(answer(PROMPT, have))
    asked.resume.emitted_text_len = have
    asked.resume.number = number
    return asked


async def refusal(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(call)
    return raised.value


def counters(service: RouterService):
    return service.runtime.core.snapshot().counters


async def test_the_first_message_alone_tells_the_effective_sampling():
    async with cluster(FakeWorker("a", step_s=0.01)) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.Generate(request(n=100_000))
        first, second = await call.read(), await call.read()
        assert first.sampling.max_tokens == 512 - len(PROMPT)  # what the model has room for
        assert first.sampling.temperature == 1.0
        assert first.sampling.HasField("seed")
        assert not second.HasField("sampling")
        call.cancel()


async def test_a_resume_ends_the_stream_that_still_lives_before_it_starts():
    """A client that lost its connection only: the router has not noticed."""
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker, max_in_flight=1) as (service, router, _):
        await until(lambda: all_live(service))
        old = aiter(router.Generate(request(n=N)))
        first = await anext(old)
        worker.hold_after = None
        messages = await collect(router.Generate(resume_of(first, 1)))
        assert (await refusal(old)).code() is grpc.StatusCode.ABORTED
        assert worker.aborted == [first.request_id]
        ids = [i for message in messages for i in unpack_tokens(message.token_ids).tolist()]
        assert messages[0].position == 1
        assert ids == answer(PROMPT, N)[1:]
        assert messages[-1].usage.output_tokens == N
        assert counters(service)["streams_ended_by_a_later_resume"] == 1
        await until(lambda: not len(service.runtime.core._state.requests))
        service.runtime.core.check()


async def test_of_two_resumes_the_later_one_has_the_answer():
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        first = await router.Generate(request(n=N)).read()
        later = aiter(router.Generate(resume_of(first, 2, number=2)))
        await anext(later)
        late = await refusal(router.Generate(resume_of(first, 1, number=1)))
        assert late.code() is grpc.StatusCode.ABORTED
        assert "later resume" in late.details()
        worker.hold_after = None
        assert (await collect(later))[-1].usage.output_tokens == N


async def test_an_id_is_known_to_its_own_tenant_only():
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.Generate(request(n=N, tenant="mine"))
        first = await call.read()
        invented = pb.GenerateResponse(request_id="0" * 32, sampling=first.sampling)
        for other in (
            resume_of(first, 1, tenant="theirs"),
            resume_of(first, 1),
            resume_of(invented, 1, tenant="mine"),
        ):
            error = await refusal(router.Generate(other))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert other.resume.request_id not in error.details()
        assert not worker.aborted
        assert counters(service)["streams_resumed_by_clients"] == 0
        worker.hold_after = None
        mine = await collect(router.Generate(resume_of(first, 1, tenant="mine")))
        assert mine[-1].finish_reason == pb.FINISH_REASON_LENGTH


BAD = {
    "sampling.seed": lambda asked: asked.sampling.ClearField("seed"),
    "sampling.max_tokens": lambda asked: asked.sampling.ClearField("max_tokens"),
    "resume.number": lambda asked: asked.resume.ClearField("number"),
    "more tokens than max_tokens": lambda asked: setattr(asked.sampling, "max_tokens", 2),
    "outside the vocabulary": lambda asked: setattr(
        asked.resume, "emitted_token_ids", pack_tokens([400])
    ),
    "packed": lambda asked: setattr(asked.resume, "emitted_token_ids", b"abc"),
}


async def test_a_resume_that_cannot_go_on_as_it_began_is_refused_with_what_to_do():
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        first = await router.Generate(request(n=N)).read()
        for number, (word, spoil) in enumerate(BAD.items(), 1):
            asked = resume_of(first, 3, number=number)
            spoil(asked)
            error = await refusal(router.Generate(asked))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, word
            assert word in error.details()
        with pytest.raises(grpc.aio.AioRpcError, match="use Generate"):
            await router.Route(pb.RouteRequest(request=resume_of(first, 3)))
        service.runtime.core.check()


async def test_a_full_queue_turns_new_requests_away_and_no_resume():
    worker = FakeWorker("a", never_prefill=True)
    async with cluster(worker, max_waiting=1) as (service, router, _):
        await until(lambda: all_live(service))
        core = service.runtime.core
        held: list[Any] = []
        while core.n_waiting < 1:  # as many as the worker takes at once, and one that waits
            before = core.n_running
            held.append(router.Generate(request([*PROMPT, len(held)], n=N)))
            await until(lambda before=before: core.n_running > before)
        refused = await refusal(router.Generate(request(n=N)))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        lost = pb.GenerateResponse(request_id=service_id(service), sampling=full_sampling())
        going_on = router.Generate(resume_of(lost, 3))
        await until(lambda: counters(service)["streams_resumed_by_clients"] == 1)
        front = core._state.waiting.front(service.runtime.now_ns(), 8)
        is_inside = lost.request_id in core._state.requests
        assert is_inside
        assert [one.request_id for one in front.lost] in ([], [lost.request_id])
        for call in [*held, going_on]:
            call.cancel()
        await until(lambda: not core.n_running)
        core.check()


async def test_a_resume_counts_with_what_it_carries_against_the_house():
    worker = FakeWorker("a", hold_after=5)
    n_bytes = 4 * len(PROMPT)
    async with cluster(worker, max_in_flight_bytes=2 * n_bytes + 7) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.Generate(request(n=N))
        await call.read()
        lost = pb.GenerateResponse(request_id=service_id(service), sampling=full_sampling())
        error = await refusal(router.Generate(resume_of(lost, 2)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        going_on = router.Generate(resume_of(lost, 1))
        assert (await going_on.read()).position == 1


async def test_a_resume_that_has_everything_is_told_the_finish_and_computes_nothing():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        lost = pb.GenerateResponse(request_id=service_id(service), sampling=full_sampling())
        (last,) = await collect(router.Generate(resume_of(lost, N)))
        assert (last.position, last.finish_reason) == (N, pb.FINISH_REASON_LENGTH)
        assert not worker.seen


def service_id(service: RouterService) -> str:
    """As another router of the cluster would draw it."""
    return RequestIds(service._settings.cluster_secret, random.Random(1)).draw("")


def full_sampling() -> pb.SamplingParams:
    return pb.SamplingParams(seed=7, max_tokens=N)
