"""The router over real workers (engine processes with a fake model): both sides of every wire."""

import asyncio
import os
import random
import signal

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, unpack_tokens
from tests.router.clusters import collect, states, until
from tests.router.real_fleet import SLOW_RUNNER, fleet
from tests.worker.fakes import alone, held_back


def ask(router, prompt, n, **sampling):
    params = pb.SamplingParams(max_tokens=n, seed=7, ignore_eos=True, **sampling)
    return router.Generate(pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=params))


def expected(prompt, n):
    return alone(prompt, SamplingParams(max_tokens=n, seed=7, ignore_eos=True))


def assert_whole(messages, prompt, n):
    got: list[int] = []
    for message in messages:
        assert message.position == len(got)
        got += unpack_tokens(message.token_ids).tolist()
    assert got == expected(prompt, n)
    assert [m.finish_reason for m in messages if m.finish_reason] == [pb.FINISH_REASON_LENGTH]


async def test_prefixes_are_found_again_and_the_index_agrees_with_the_caches():
    rng = random.Random(5)
    async with fleet("a", "b") as (service, _, router):
        await until(lambda: all(m.is_fresh for m in service.runtime.core._state.members))
        trunks = [[rng.randrange(90) for _ in range(48)] for _ in range(4)]
        for turn in range(5):
            prompts = [[*trunk, *range(turn * 4)] for trunk in trunks]
            streams = await asyncio.gather(*(collect(ask(router, p, 6)) for p in prompts))
            for prompt, messages in zip(prompts, streams, strict=True):
                assert_whole(messages, prompt, 6)
            await asyncio.sleep(0.3)  # a heartbeat: digests are compared
        state = service.runtime.core._state
        hits = [state.hits.of(WorkerId(w)) for w in "ab"]
        assert sum(h.requests for h in hits) == 20
        # Four of five turns find their trunk and the turns before: more than half of all tokens.
        prompt_tokens = sum(h.prompt_tokens for h in hits)
        assert sum(h.cached_tokens for h in hits) > 0.6 * prompt_tokens
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits)
        assert all(service.runtime.events.status(WorkerId(w)).state == "live" for w in "ab")
        counters = state.counters.as_dict()
        assert counters["event_items_malformed"] == counters["index_removals_unknown"] == 0
        audits = [state.audit.of(WorkerId(w)) for w in "ab"]
        assert sum(audit.judged for audit in audits) == 20
        assert not any(audit.differing or audit.unjudged for audit in audits)
        state.members.check()
        service.runtime.core.check()


async def test_a_killed_engine_moves_its_streams_token_exact():
    async with fleet("a", "b", runner=SLOW_RUNNER) as (service, workers, router):
        prompts = [[*range(20), n] for n in range(6)]
        with held_back():
            calls = [asyncio.create_task(collect(ask(router, p, 100))) for p in prompts]
            requests = service.runtime.core._state.requests
            await until(lambda: len(requests) == 6 and all(r.position >= 3 for r in requests), 20)
            victim = next(w for w in "ab" if workers[w].in_flight)
            moved = workers[victim].in_flight
            pid = workers[victim].engine_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 100)
        assert states(service)[victim] == "dead"
        assert service.runtime.core._state.counters.as_dict()["requests_resumed"] == moved


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_lease_lives_as_long_as_the_request_that_its_worker_serves_under_it(leaves):
    async with fleet("a", runner=SLOW_RUNNER) as (service, _, router):
        counters = service.runtime.core._state.counters
        prompt = [5, 6, 7, 8, 9]
        params = pb.SamplingParams(max_tokens=60, seed=7, ignore_eos=True)
        wanted = pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=params)
        routed = await router.Route(pb.RouteRequest(request=wanted))
        async with grpc.aio.insecure_channel(routed.address) as channel:
            direct = rpc.EngineStub(channel).Generate(
                pb.SubmitRequest(
                    request_id=routed.request_id,
                    attempt=1,
                    prompt_token_ids=routed.token_ids,
                    sampling=routed.sampling,
                )
            )
            with held_back():
                assert await direct.read() is not grpc.aio.EOF
                await until(lambda: service.runtime.core._state.leases._seen)
                assert len(service.runtime.core._state.loads) == 1
            if leaves:
                direct.cancel()
            else:
                while await direct.read() is not grpc.aio.EOF:
                    pass
            # The engine falls idle with it and has no further step to say so with.
            await until(lambda: counters["leases_used"] == 1)
            assert len(service.runtime.core._state.loads) == 0
            assert counters["leases_lapsed"] == 0


async def test_a_client_that_leaves_frees_the_workers_request():
    async with fleet("a", runner=SLOW_RUNNER) as (service, workers, router):
        with held_back():
            call = ask(router, list(range(30)), 200)
            await call.read()
            assert workers["a"].in_flight == 1
            call.cancel()
            await until(lambda: workers["a"].in_flight == 0, 5)  # 200 tokens take 10 s
        assert len(service.runtime.core._state.requests) == 0


@pytest.mark.parametrize("text", ["!!", "no such chat"])
async def test_chats_without_a_template_are_refused_and_texts_served(text):
    async with fleet("a") as (_, _workers, router):
        sampling = pb.SamplingParams(max_tokens=3, ignore_eos=True)
        chat = pb.ChatMessages(messages=[pb.ChatMessage(role="user", content=text)])
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(pb.GenerateRequest(messages=chat)))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        messages = await collect(router.Generate(pb.GenerateRequest(text="!!", sampling=sampling)))
        assert messages[-1].usage.output_tokens == 3
