"""Workers that die, hang and come back, seen by clients: streams stay whole."""

import asyncio

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from tests.router.clusters import (
    PROMPT,
    all_live,
    assert_whole,
    cluster,
    collect,
    request,
    states,
    until,
)
from tests.router.fakes import FakeWorker

N = 12


async def on_a(service, router, a: FakeWorker, b: FakeWorker):
    """A request whose first attempt runs on `a`, with `b` ready to take over."""
    service.set_members([a.spec])
    await until(lambda: states(service) == {"a": "live"})
    call = asyncio.create_task(collect(router.Generate(request(n=N))))
    await until(lambda: len(a.live) == 1)
    service.set_members([a.spec, b.spec])
    await until(lambda: states(service)["b"] == "live")
    return call


@pytest.mark.parametrize("emitted", [0, 1, 5, N - 1])
async def test_a_broken_stream_moves_on_token_exact(emitted):
    a, b = FakeWorker("a", hold_after=emitted), FakeWorker("b")
    async with cluster(a, b) as (service, router, inspect):
        call = await on_a(service, router, a, b)
        await until(lambda: next(iter(a.live.values())).emitted == emitted)
        started = asyncio.get_running_loop().time()
        await a.kill()
        messages = await call
        assert asyncio.get_running_loop().time() - started < 1.0
        assert_whole(messages, PROMPT, N)
        usage = messages[-1].usage
        assert (usage.attempts, usage.worker_id) == (2, "b")
        first, last = usage.by_attempt
        assert (first.worker_id, last.worker_id) == ("a", "b")
        # What was cached is known of whoever got as far as a first token.
        assert first.HasField("cached_tokens") == (emitted > 0)
        assert last.HasField("cached_tokens")
        resumed = b.seen[0]
        assert (resumed.attempt, resumed.resume.emitted_text_len) == (2, emitted)
        why = await inspect.Explain(pb.ExplainRequest(request_id=messages[0].request_id))
        assert [d.chosen for d in why.attempts] == ["a", "b"]
        hits = (await inspect.HitRates(pb.HitRatesRequest())).total
        assert hits.requests == 1
        assert hits.resumed_requests == (1 if emitted else 0)


async def test_a_report_of_death_moves_streams_at_once():
    a, b = FakeWorker("a", hold_after=3), FakeWorker("b")
    async with cluster(a, b) as (service, router, _):
        call = await on_a(service, router, a, b)
        await until(lambda: next(iter(a.live.values())).emitted == 3)
        service.report_dead("a")
        assert_whole(await call, PROMPT, N)
        # Its session is closed too, so that the worker stops working for nobody.
        await until(lambda: not a.live)


async def test_a_silent_worker_is_suspected_then_given_up():
    a, b = FakeWorker("a", hold_after=3), FakeWorker("b")
    times = {"suspect_after_s": 0.6, "dead_after_s": 1.2}
    async with cluster(a, b, **times) as (service, router, _):
        call = await on_a(service, router, a, b)
        await until(lambda: next(iter(a.live.values())).emitted == 3)
        await asyncio.to_thread(a.publisher.stop)
        await until(lambda: states(service)["a"] == "suspect")
        assert not call.done()
        # New requests avoid it while it is suspect; its own streams wait for it.
        assert_whole(await collect(router.Generate(request([7, 7, 7], n=2))), [7, 7, 7], 2)
        assert len(b.seen) == 1
        assert_whole(await call, PROMPT, N)
        assert b.seen[1].attempt == 2


async def test_a_request_that_loses_two_workers_ends_with_a_clean_error():
    a, b, c = (FakeWorker(w, hold_after=2) for w in "abc")
    async with cluster(a, b, c) as (service, router, _):
        await until(lambda: all_live(service))
        call = asyncio.create_task(collect(router.Generate(request(n=N))))
        left = [a, b, c]
        for _ in range(2):
            await until(lambda: any(w.live for w in left))
            holder = next(w for w in left if w.live)
            await until(lambda w=holder: next(iter(w.live.values())).emitted >= 2)
            left.remove(holder)
            await holder.kill()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert sum(len(w.seen) for w in (a, b, c)) == 2
        service.runtime.core.check()


async def test_the_last_worker_comes_back_and_the_stream_goes_on():
    a = FakeWorker("a", hold_after=4)
    async with cluster(a) as (service, router, _):
        await until(lambda: all_live(service))
        call = asyncio.create_task(collect(router.Generate(request(n=N))))
        await until(lambda: any(live.emitted == 4 for live in a.live.values()))
        await a.kill()
        again = FakeWorker("a", incarnation=2)
        service.set_members([await again.start()])
        assert_whole(await call, PROMPT, N)
        assert states(service) == {"a": "live"}
        await again.kill()


async def test_a_worker_that_rejoins_has_an_empty_index_and_a_new_epoch():
    a = FakeWorker("a")
    async with cluster(a) as (service, router, _):
        await until(lambda: all_live(service))
        await collect(router.Generate(request(n=2)))
        await until(lambda: service.runtime.events.status("a").indexed_blocks == 10)
        await a.kill()
        await until(lambda: states(service) == {"a": "dead"})
        again = FakeWorker("a", incarnation=2)
        service.set_members([await again.start()])
        await until(lambda: all_live(service))
        member = next(iter(service.runtime.core._state.members))
        assert member.epoch == again.epoch.hex()
        assert service.runtime.events.status("a").indexed_blocks == 0
        messages = await collect(router.Generate(request(n=2)))
        assert messages[-1].usage.cached_tokens == 0
        await again.kill()


async def test_a_worker_restarted_at_the_same_address_is_found_again():
    a = FakeWorker("a")
    async with cluster(a) as (service, router, _):
        await until(lambda: all_live(service))
        await a.kill()
        await until(lambda: states(service) == {"a": "dead"})
        again = FakeWorker("a", host_port=a.port)
        await again.start()
        await until(lambda: all_live(service))
        assert_whole(await collect(router.Generate(request())), PROMPT, 8)
        await again.kill()


async def test_a_worker_that_is_no_longer_listed_finishes_what_it_has():
    a, b = FakeWorker("a", hold_after=3), FakeWorker("b")
    async with cluster(a, b) as (service, router, _):
        call = await on_a(service, router, a, b)
        service.set_members([b.spec])
        assert states(service) == {"a": "draining", "b": "live"}
        assert_whole(await collect(router.Generate(request([5, 6, 7], n=2))), [5, 6, 7], 2)
        assert len(b.seen) == 1
        a.hold_after = None
        messages = await call
        assert_whole(messages, PROMPT, N)
        assert messages[-1].usage.attempts == 1
        await until(lambda: states(service) == {"b": "live"})


async def test_many_streams_survive_a_death_together():
    workers = [FakeWorker(w, step_s=0.004) for w in "abc"]
    async with cluster(*workers, policy="round_robin") as (service, router, _):
        await until(lambda: all_live(service))
        prompts = [[*PROMPT, n] for n in range(30)]
        calls = [asyncio.create_task(collect(router.Generate(request(p, n=40)))) for p in prompts]
        await until(lambda: sum(len(w.seen) for w in workers) == 30)
        await workers[0].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 40)
        core = service.runtime.core
        core.check()
        assert len(core._state.loads) == len(core._state.requests) == 0
        assert core._state.counters.as_dict()["requests_resumed"] == 10
