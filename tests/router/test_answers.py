"""Several answers to one prompt, and log probabilities, from the gRPC door to workers and back."""

import asyncio

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.request.logprobs import pack_logprobs
from radixroute.request.sampling import FinishReason
from radixroute.request.wire import logprobs_from_proto, pack_tokens, unpack_tokens
from radixroute.router.api.grpc.client_answers import ClientAnswers
from radixroute.router.api.grpc.client_stream import ClientStream
from radixroute.router.errors import DeadlinePassed
from radixroute.router.messages.actions import Emit, Failure, Usage
from tests.router.clusters import (
    PROMPT,
    all_live,
    assert_whole,
    cluster,
    collect,
    request,
    until,
)
from tests.router.fakes import FakeWorker, told_at
from tests.router.real_fleet import fleet
from tests.router.test_client_stream import read
from tests.router.worlds import packed
from tests.worker.fakes import alone
from tests.worker.fakes import request as engine_request

USAGE = Usage(3, 2, 2, 0, 1, WorkerId("w"), 1.5, 0.5)


def emit(position, finish=None, usage=None, logprobs=None):
    return Emit("r", position, packed(position), str(position), finish, usage, logprobs)


def asked(tokens=8, **sampling):
    message = request(n=tokens)
    message.sampling.MergeFrom(pb.SamplingParams(**sampling))
    return message


def by_index(messages):
    found: dict[int, list[pb.GenerateResponse]] = {}
    for message in messages:
        found.setdefault(message.index, []).append(message)
    return found


def told_in(messages):
    found = []
    for message in messages:
        told = logprobs_from_proto(message.logprobs, len(message.token_ids) // 4)
        assert told is not None
        found += told.unpacked()
    return found


def ids_in(messages):
    return [token for m in messages for token in unpack_tokens(m.token_ids).tolist()]


async def test_three_answers_are_whole_each_and_count_their_prompt_once():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        answers = by_index(await collect(router.Generate(asked(6, n=3, seed=2**64 - 1))))
        assert sorted(answers) == [0, 1, 2]
        for messages in answers.values():
            assert_whole(messages, PROMPT, 6)
        assert len({messages[0].request_id for messages in answers.values()}) == 3
        seeds = [answers[index][0].sampling.seed for index in range(3)]
        assert seeds == [2**64 - 1, 0, 1] == [one.sampling.seed for one in worker.seen]
        assert not any(one.sampling.HasField("n") for one in worker.seen)
        last = [answers[index][-1].usage for index in range(3)]
        assert sum(usage.prompt_tokens for usage in last) == len(PROMPT)
        assert sum(usage.output_tokens for usage in last) == 18
        await until(lambda: not service.reception.n_open)
        assert not len(service.runtime.core._state.admission)
        service.runtime.core.check()


@pytest.mark.parametrize(("n", "why"), [(0, "use 1 to 8"), (9, "use 1 to 8")])
async def test_too_many_answers_or_none_are_refused(n, why):
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(router.Generate(asked(n=n)))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert why in caught.value.details()


async def test_a_lease_and_a_resume_are_for_one_answer():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        with pytest.raises(grpc.aio.AioRpcError, match="one answer"):
            await router.Route(pb.RouteRequest(request=asked(n=2)))
        (first, *_) = await collect(router.Generate(asked(seed=1)))
        resumed = asked(n=2, seed=1)
        resumed.resume.request_id, resumed.resume.number = first.request_id, 1
        with pytest.raises(grpc.aio.AioRpcError, match="one answer"):
            await collect(router.Generate(resumed))


async def test_a_client_that_leaves_ends_every_answer():
    worker = FakeWorker("a", hold_after=2)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.Generate(asked(n=4))
        for _ in range(4):
            await call.read()
        call.cancel()
        state = service.runtime.core._state
        await until(lambda: not len(state.requests) and not len(state.admission))
        await until(lambda: len(set(worker.aborted)) == 4)
        assert not service.reception.n_open
        service.runtime.core.check()


async def test_answers_go_on_elsewhere_each_by_itself():
    first, second = FakeWorker("a", hold_after=3), FakeWorker("b")
    async with cluster(first, second) as (service, router, _):
        await until(lambda: all_live(service))
        collecting = asyncio.create_task(collect(router.Generate(asked(6, n=3, logprobs=2))))
        held = service.runtime.core._state.requests
        # All of them began at the one that stops short, or have ended at the other.
        await until(lambda: len(first.seen) and all(one.position == 3 for one in held))
        await first.kill()
        messages = await collecting
        answers = by_index(messages)
        assert sorted(answers) == [0, 1, 2]
        for got in answers.values():
            assert_whole(got, PROMPT, 6)
            assert told_in(got) == [told_at(position, 2) for position in range(6)]


async def test_real_workers_draw_each_answer_with_its_own_seed_and_tell_what_they_think():
    prompt = list(range(1, 30))
    sampling = pb.SamplingParams(
        max_tokens=12, n=3, seed=40, presence_penalty=0.5, logprobs=1, ignore_eos=True
    )
    async with fleet("w") as (_, _, router):
        message = pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=sampling)
        answers = by_index(await collect(router.Generate(message)))
    for index in range(3):
        params = {"max_tokens": 12, "presence_penalty": 0.5, "ignore_eos": True}
        wanted = alone(prompt, engine_request("x", [1], seed=40 + index, **params).sampling)
        assert ids_in(answers[index]) == wanted
        told = [one.logprob for one in told_in(answers[index])]
        assert told == [-(t + at / 8) for at, t in enumerate(wanted, start=len(prompt))]


async def test_what_is_told_is_merged_with_its_tokens():
    told = [pack_logprobs([told_at(position, 2)]) for position in range(3)]
    stream = ClientStream("r")
    for position in range(3):
        stream.put(emit(position, logprobs=told[position]))
    message = read(await stream.take())
    assert told_in([message]) == [told_at(position, 2) for position in range(3)]
    stream.put(emit(3, FinishReason.STOP))
    last = read(await stream.take())
    assert not last.HasField("logprobs")


async def test_answers_take_turns_whichever_has_most_to_say():
    answers = ClientAnswers("r")
    second = answers.add("s")
    for position in range(2):
        answers.first.put(emit(position))
        second.put(emit(position, usage=USAGE if not position else None))
        taken = [read(await answers.take()) for _ in range(2)]
        assert [(one.index, one.position) for one in taken] == [
            (0, position),
            (1, position),
        ]
        if not position:
            assert (taken[1].usage.prompt_tokens, taken[1].usage.output_tokens) == (0, 2)
    taking = asyncio.create_task(answers.take())
    await asyncio.sleep(0)
    second.put(emit(2, FinishReason.STOP))
    assert read(await taking).index == 1
    answers.first.put(emit(2, FinishReason.STOP))
    assert (await answers.take()) is not None
    assert await answers.take() is None


async def test_one_answer_that_fails_ends_all_of_them():
    answers = ClientAnswers("r")
    answers.add("s").fail(Failure.DEADLINE)
    answers.first.put(emit(0))
    assert await answers.take() is not None
    with pytest.raises(DeadlinePassed):
        await answers.take()
