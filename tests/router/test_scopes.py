"""Salts, tenants and adapters from the client's request to the worker's cache and back."""

import asyncio

import grpc
import pytest
import pytest_asyncio

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.request.wire import pack_tokens
from radixroute.router.api.grpc.inspect import list_workers
from radixroute.router.messages.inputs import Absence, AbsentWorker, MemberSpec
from tests.router.clusters import collect, until
from tests.router.real_fleet import fleet

# Two fleets serve all tests: a start takes a second. Each test has a prompt of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")
A = WorkerId("a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    """Tenants share one cache; its worker serves adapters."""
    async with fleet("a", runner="tests.worker.fakes:adapted_runner") as (service, _, router):
        await until(lambda: all(m.is_fresh for m in service.runtime.core._state.members))
        yield service, router


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart():
    async with fleet("a", router={"tenants_share_cache": False}) as (service, _, router):
        await until(lambda: all(m.is_fresh for m in service.runtime.core._state.members))
        yield service, router


def asked(first, n=2, **more):
    """41 tokens: ten full blocks, and one token that is always computed."""
    sampling = pb.SamplingParams(max_tokens=n, seed=7, ignore_eos=True)
    prompt = pack_tokens([first, *range(1, 41)])
    return pb.GenerateRequest(token_ids=prompt, sampling=sampling, **more)


def indexed(service):
    return service.runtime.events.status(A).indexed_blocks


async def until_indexed(service, blocks):
    """Blocks may be heard of after the answer that left them ends."""
    await until(lambda: indexed(service) >= blocks)
    await until(lambda: not service.runtime.core._state.expected.expects(A))


async def cached(service, router, first, **more):
    """Tokens found cached, as the router foresaw. Returns when all that was stored is known."""
    hits = service.runtime.core._state.hits
    before, blocks = hits.of(A).predicted_tokens, indexed(service)
    messages = await collect(router.Generate(asked(first, **more)))
    found = messages[-1].usage.cached_tokens
    assert hits.of(A).predicted_tokens - before == found
    await until_indexed(service, blocks + (40 - found) // 4)
    return found


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await collect(call)
    return raised.value


async def test_no_salt_hits_the_blocks_of_another_and_each_hits_its_own(shared):
    service, router = shared
    ways = [{}, {"cache_salt": "X"}, {"cache_salt": "Y"}]
    assert [await cached(service, router, 50, **way) for way in ways] == [0, 0, 0]
    assert [await cached(service, router, 50, **way) for way in ways] == [40, 40, 40]
    # Tenants share what is cached, unless the router says otherwise.
    assert await cached(service, router, 50, tenant="X") == 40
    ended = service.runtime.core.ended(0, 1 << 20).entries
    assert len({tuple(one.keys.tolist()) for one in ended}) == 3
    counters = service.runtime.core.snapshot().counters
    assert counters["event_items_malformed"] == counters["index_removals_unknown"] == 0
    service.runtime.core.check()


async def test_tenants_may_share_nothing_and_a_tenant_is_no_salt(apart):
    service, router = apart
    ways = [{}, {"tenant": "X"}, {"cache_salt": "X"}, {"tenant": "X", "cache_salt": "X"}]
    assert [await cached(service, router, 51, **way) for way in ways] == [0, 0, 0, 0]
    assert [await cached(service, router, 51, **way) for way in ways] == [40, 40, 40, 40]


async def test_a_resume_lands_in_the_scope_of_its_stream(shared):
    service, router = shared
    blocks = indexed(service)
    whole = await collect(router.Generate(asked(52, n=8, cache_salt="X")))
    await until_indexed(service, blocks + 12)  # 41 tokens of the prompt and 7 of the output
    emitted = b"".join(m.token_ids for m in whole)
    resume = asked(52, cache_salt="X")
    resume.sampling.CopyFrom(whole[0].sampling)
    resume.resume.request_id = whole[0].request_id
    resume.resume.emitted_token_ids = emitted[:16]
    resume.resume.number = 1
    rest = await collect(router.Generate(resume))
    assert b"".join(m.token_ids for m in rest) == emitted[16:]
    assert rest[-1].usage.recomputed_tokens == 1  # the blocks of its scope hold all others


async def test_a_client_that_streams_directly_is_told_its_scope(apart):
    service, router = apart
    for expected in (0, 40):
        blocks = indexed(service)
        wanted = asked(53, tenant="T", cache_salt="X")
        routed = await router.Route(pb.RouteRequest(request=wanted))
        assert routed.scope == pb.RequestScope(cache_salt="X", tenant="T")
        assert routed.overlap_tokens == expected
        async with grpc.aio.insecure_channel(routed.address) as channel:
            submit = pb.SubmitRequest(
                request_id=routed.request_id,
                attempt=1,
                prompt_token_ids=routed.token_ids,
                sampling=routed.sampling,
                scope=routed.scope,
            )
            first, *_ = await collect(rpc.EngineStub(channel).Generate(submit))
        assert first.prompt.cached_tokens == expected
        await until(lambda: not len(service.runtime.core._state.leases))
        await until_indexed(service, blocks + (40 - expected) // 4)
    plain = await router.Route(pb.RouteRequest(request=asked(53)))
    assert not plain.HasField("scope")
    assert plain.overlap_tokens == 0
    await router.Release(pb.ReleaseRequest(lease_id=plain.lease_id))


async def test_adapters_keep_their_blocks_apart_too_and_one_like_a_salt_is_no_salt(shared):
    service, router = shared
    ways = [{}, {"lora": "X"}, {"lora": "Y"}, {"cache_salt": "X"}, {"lora": "X", "cache_salt": "X"}]
    assert [await cached(service, router, 55, **way) for way in ways] == [0] * 5
    assert [await cached(service, router, 55, **way) for way in ways] == [40] * 5


async def test_an_adapter_nobody_serves_is_refused_at_the_door_and_told_which_there_are(
    shared, apart
):
    for (service, router), words in (
        (shared, "lora: no worker serves this adapter; use one of 'X', 'Y', or leave it out"),
        (apart, "lora: no worker serves any adapter; leave it out"),
    ):
        error = await refusal(router.Generate(asked(56, lora="Z")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in error.details()
        assert service.runtime.core.n_running == 0


async def test_an_adapter_is_waited_for_while_a_worker_comes_that_has_said_nothing_yet():
    """And refused once everybody has."""
    coming = AbsentWorker(WorkerId("b"), Absence.STARTING)
    async with fleet("a", router={"no_worker_wait_s": 0.2}) as (service, workers, router):
        core, (here,) = service.runtime.core, workers.values()
        listed = [MemberSpec(A, str(here.address), 3)]
        service.set_members(listed, [coming])
        held = asyncio.create_task(refusal(router.Generate(asked(57, lora="Z"))))
        await until(lambda: core.n_waiting == 1)
        service.set_members(listed, [])
        assert (await held).code() is grpc.StatusCode.UNAVAILABLE
        error = await refusal(router.Generate(asked(57, lora="Z")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_workers_say_which_adapters_they_serve(shared):
    service, _ = shared
    (worker,) = list_workers(service.runtime).workers
    assert list(worker.adapters) == ["X", "Y"]


async def test_a_salt_too_long_is_refused_and_a_salt_is_never_shown(shared, caplog):
    service, router = shared
    caplog.set_level("DEBUG")
    error = await refusal(router.Generate(asked(54, cache_salt="hush" * 257)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cache_salt: has 1028 characters; use at most 1024" in error.details()
    messages = await collect(router.Generate(asked(54, cache_salt="hush" * 256)))
    explained = repr(service.runtime.core.logged(messages[0].request_id))
    assert "hush" not in error.details() + explained + caplog.text
