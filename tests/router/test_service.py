"""A whole router against fake workers on loopback: streams, refusals, inspection."""

import asyncio
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import unpack_tokens
from radixroute.router.errors import PortInUse, UnknownPolicy, UnsafeBind
from radixroute.router.service import RouterService
from tests.router.clusters import (
    PROMPT,
    all_live,
    assert_whole,
    cluster,
    collect,
    request,
    settings,
    states,
    until,
)
from tests.router.fakes import FakeWorker


@pytest.mark.parametrize(
    "policy", ["radix", "round_robin", "random", "least_loaded", "power_of_two"]
)
async def test_streams_are_whole_under_every_policy(policy):
    async with cluster(FakeWorker("a"), FakeWorker("b"), policy=policy) as (service, router, _):
        await until(lambda: all_live(service))
        prompts = [[*PROMPT, number] for number in range(12)]
        streams = await asyncio.gather(*(collect(router.Generate(request(p))) for p in prompts))
        for prompt, messages in zip(prompts, streams, strict=True):
            assert_whole(messages, prompt, 8)
        service.runtime.core.check()
        assert len(service.runtime.core._state.loads) == 0


async def test_round_robin_shares_requests_evenly():
    workers = [FakeWorker("a"), FakeWorker("b"), FakeWorker("c")]
    async with cluster(*workers, policy="round_robin") as (service, router, _):
        await until(lambda: all_live(service))
        for _ in range(9):
            await collect(router.Generate(request(n=2)))
        assert [len(worker.seen) for worker in workers] == [3, 3, 3]


async def test_a_session_key_keeps_requests_together():
    workers = [FakeWorker(name) for name in "abcd"]
    async with cluster(*workers, policy="session_affinity") as (service, router, _):
        await until(lambda: all_live(service))

        async def served_by(session_key, first_id):
            asked = request([first_id, *range(30, 90)], n=1)
            asked.session_key = session_key
            return (await collect(router.Generate(asked)))[-1].usage.worker_id

        assert len({await served_by("alice", n) for n in range(20, 30)}) == 1
        assert len({await served_by("", n) for n in range(20, 40)}) > 1


async def test_a_prompt_longer_than_a_message_arrives_whole():
    worker = FakeWorker("a")
    async with cluster(worker, chunk_tokens=7) as (service, router, _):
        await until(lambda: all_live(service))
        assert_whole(await collect(router.Generate(request(n=3))), PROMPT, 3)
        assert len(worker.seen[0].prompt_token_ids) == 7 * 4


async def test_text_and_chats_are_tokenised_by_the_router():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        sampling = pb.SamplingParams(max_tokens=2)
        for text in ("hello world", "hello world " * 400):
            asked = pb.GenerateRequest(text=text, sampling=sampling)
            expected = worker.tokenizer.encode(text).tolist()
            if len(expected) < 500:
                assert_whole(await collect(router.Generate(asked)), expected, 2)
                continue
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await collect(router.Generate(asked))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "hello" not in raised.value.details()


async def test_usage_comes_with_the_first_token_and_again_with_the_last():
    async with cluster(FakeWorker("a", step_s=0.02)) as (service, router, _):
        await until(lambda: all_live(service))
        messages = await collect(router.Generate(request(n=4)))
        assert [m.HasField("usage") for m in messages] == [True, False, False, True]
        last = messages[-1].usage
        assert (last.prompt_tokens, last.worker_id, last.attempts) == (len(PROMPT), "a", 1)
        assert last.ttft_ms > 0


BAD = {
    "an empty prompt": pb.GenerateRequest(text=""),
    "no prompt": pb.GenerateRequest(),
    "a torn token id": pb.GenerateRequest(token_ids=b"abc"),
    "a token id out of range": request([399, 400]),
    "a prompt over the limit": request([20] * 512),
    "a negative temperature": pb.GenerateRequest(
        text="hi", sampling=pb.SamplingParams(temperature=-1)
    ),
    "no token to generate": pb.GenerateRequest(text="hi", sampling=pb.SamplingParams(max_tokens=0)),
    "an unknown policy": request(policy="best"),
}


async def test_bad_input_is_refused_with_what_to_do_and_costs_nothing():
    async with cluster(FakeWorker("a")) as (service, router, _):
        await until(lambda: all_live(service))
        for name, bad in BAD.items():
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await collect(router.Generate(bad))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            assert "request " in raised.value.details(), name
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(request(model="other")))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        core = service.runtime.core
        assert len(core._state.requests) == 0
        assert core._state.counters.as_dict()["requests_rejected"] == len(BAD) + 1
        by_field = service.reception.rejections.by_field
        assert by_field["model"] == by_field["policy"] == by_field["temperature"] == 1
        assert_whole(await collect(router.Generate(request())), PROMPT, 8)


async def test_without_workers_a_request_waits_and_then_fails_cleanly():
    async with cluster(no_worker_wait_s=0.2) as (_, router, _inspect):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(request()))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_request_that_came_before_the_first_worker_is_served():
    worker = FakeWorker("a")
    async with cluster() as (service, router, _):
        call = asyncio.create_task(collect(router.Generate(request())))
        spec = await worker.start()
        service.set_members([spec])
        assert_whole(await call, PROMPT, 8)
    await worker.kill()


async def test_a_full_router_says_so():
    worker = FakeWorker("a", hold_after=1)
    async with cluster(worker, max_in_flight=2) as (service, router, _):
        await until(lambda: all_live(service))
        held = [router.Generate(request()) for _ in range(2)]
        await asyncio.gather(*(call.read() for call in held))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(request()))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in held:
            call.cancel()


async def test_a_client_that_leaves_frees_its_place_on_the_worker():
    worker = FakeWorker("a", hold_after=2)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        call = router.Generate(request())
        await call.read()
        assert len(worker.live) == 1
        call.cancel()
        await until(lambda: not worker.live and worker.aborted)
        core = service.runtime.core
        assert len(core._state.requests) == len(core._state.loads) == 0
        core.check()


async def test_a_clients_deadline_ends_its_request_everywhere():
    worker = FakeWorker("a", hold_after=2)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(request(), timeout=0.3))
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not worker.live)
        assert len(service.runtime.core._state.requests) == 0


async def test_the_routers_own_time_limit_is_a_clean_error():
    worker = FakeWorker("a", hold_after=2)
    async with cluster(worker, request_timeout_s=0.2) as (service, router, _):
        await until(lambda: all_live(service))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(router.Generate(request()))
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: not worker.live)


MISFITS: dict[str, dict[str, Any]] = {
    "block size": {"block_size": 8},
    "scope": {"secret": "another"},
    "model": {"model": "huge"},
    "api version": {"api_version": 99},
}


@pytest.mark.parametrize("what", MISFITS)
async def test_a_worker_that_does_not_match_is_refused_loudly(what, caplog):
    good, misfit = FakeWorker("a"), FakeWorker("b", **MISFITS[what])
    async with cluster(good) as (service, router, inspect):
        await until(lambda: all_live(service))
        service.set_members([good.spec, await misfit.start()])
        await until(lambda: states(service)["b"] == "refused")
        listed = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
        assert what in next(w.reason for w in listed if w.worker_id == "b")
        assert any(what in r.getMessage() for r in caplog.records if r.levelname == "ERROR")
        assert service.runtime.core._state.counters.as_dict()["joins_refused"] == 1
        assert_whole(await collect(router.Generate(request())), PROMPT, 8)
        assert not misfit.seen
    await misfit.kill()


async def test_where_other_routers_may_listen_is_listed():
    offering = FakeWorker("a", compat=("tcp://127.0.0.1:7", "tcp://127.0.0.1:8"))
    async with cluster(offering, FakeWorker("b")) as (service, _, inspect):
        await until(lambda: all_live(service))
        listed = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
        told = {w.worker_id: (w.compat_events_endpoint, w.compat_replay_endpoint) for w in listed}
        assert told == {"a": offering.compat, "b": ("", "")}


async def test_the_first_worker_must_match_the_routers_own_settings():
    async with cluster(FakeWorker("a"), block_size=32) as (service, _, _inspect):
        await until(lambda: states(service) == {"a": "refused"})


async def test_a_port_in_use_is_a_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match="another process listens there"):
            await RouterService(settings(port=taken.getsockname()[1])).start()


async def test_a_wide_bind_needs_to_be_allowed():
    with pytest.raises(UnsafeBind, match="insecure_bind"):
        await RouterService(settings(host="0.0.0.0")).start()
    service = RouterService(settings(host="0.0.0.0", insecure_bind=True))
    assert (await service.start()).port > 0
    await service.stop()


def test_an_unknown_policy_is_refused_at_once():
    with pytest.raises(UnknownPolicy, match="round_robin"):
        RouterService(settings(policy="best"))


async def test_inspection_tells_who_serves_and_why():
    workers = [FakeWorker("a"), FakeWorker("b")]
    async with cluster(*workers) as (service, router, inspect):
        await until(lambda: all_live(service))
        await until(lambda: all(m.is_fresh for m in service.runtime.core._state.members))
        first = await collect(router.Generate(request()))
        chosen = first[-1].usage.worker_id
        await until(lambda: service.runtime.events.status(chosen).indexed_blocks == 10)
        second = await collect(router.Generate(request([*PROMPT, 99, 98])))
        assert second[-1].usage.worker_id == chosen
        assert second[-1].usage.cached_tokens == 40

        why = await inspect.Explain(pb.ExplainRequest(request_id=second[0].request_id))
        assert (why.policy, why.outcome, why.cached_tokens) == ("radix", "length", 40)
        decision = why.attempts[0]
        assert decision.chosen == chosen
        by_worker = {c.worker_id: c for c in decision.candidates}
        assert by_worker[chosen].overlap_blocks == 10
        assert by_worker[chosen].score < by_worker[{"a": "b", "b": "a"}[chosen]].score
        assert {t.name for t in by_worker["a"].terms} >= {
            "queue",
            "prefill",
            "slow_down",
            "turnover",
            "replica",
        }

        hits = await inspect.HitRates(pb.HitRatesRequest())
        assert (hits.total.requests, hits.total.cached_tokens) == (2, 40)
        assert hits.total.prompt_tokens == 82
        assert hits.total.predicted_tokens == 40
        listed = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
        assert [(w.worker_id, w.state) for w in listed] == [("a", "live"), ("b", "live")]
        assert sum(w.indexed_blocks for w in listed) == 10
        info = await inspect.RouterInfo(pb.RouterInfoRequest())
        assert (info.model, info.block_size, info.policy) == ("tiny", 4, "radix")
        assert info.counters["requests_finished"] == 2


async def test_explain_of_an_unknown_request_is_not_found():
    async with cluster() as (_, _router, inspect):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await inspect.Explain(pb.ExplainRequest(request_id="nobody"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_routed_client_gets_a_lease_and_all_it_needs():
    worker = FakeWorker("a")
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        routed = await router.Route(pb.RouteRequest(request=request()))
        assert routed.address == worker.spec.address
        assert unpack_tokens(routed.token_ids).tolist() == PROMPT
        assert routed.sampling.max_tokens == 8
        assert routed.sampling.HasField("seed")
        assert len(service.runtime.core._state.loads) == 1
        release = pb.ReleaseRequest(lease_id=routed.lease_id)
        assert (await router.Release(release)).released
        assert not (await router.Release(release)).released
        assert len(service.runtime.core._state.loads) == 0


async def test_health_follows_the_workers():
    worker = FakeWorker("a")
    codes = health_pb2.HealthCheckResponse
    async with (
        cluster() as (service, _, _inspect),
        grpc.aio.insecure_channel(str(service.address)) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == codes.NOT_SERVING
        service.set_members([await worker.start()])
        assert (await watch.read()).status == codes.SERVING
        await worker.kill()
        assert (await watch.read()).status == codes.NOT_SERVING
