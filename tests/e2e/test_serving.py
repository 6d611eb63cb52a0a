"""`serve`: a router here, companions in processes beside it, over engines whose life we hold."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import grpc
import pytest

from radixroute.deploy.process_tree import identify
from radixroute.deploy.serving.engines import engines_of
from radixroute.deploy.serving.serving import Serving
from radixroute.deploy.settings import ClusterSettings, ServeSettings, with_secret
from radixroute.deploy.state.records import ActorState
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, sampling_to_proto, unpack_tokens
from radixroute.router.settings import RouterSettings
from tests.deploy.fake_engines import (
    ARGUMENTS,
    ODD_BLOCKS,
    REFUSAL,
    REFUSED,
    SLOW,
    FakePort,
)
from tests.worker.fakes import alone

LIMIT_S = 60.0


def settings(*engines, **changes):
    serve = ServeSettings(engines=engines, engines_per_process=changes.pop("per_process", 1))
    router = RouterSettings(port=0, metrics_port=None, http_port=None)
    return with_secret(
        ClusterSettings(router=router, serve=serve, **{"stop_timeout_s": 5.0, **changes})
    )


class Told:
    """What `serve` says, line by line."""

    def __init__(self):
        self.lines = []

    def __call__(self, line):
        self.lines.append(line)

    def have(self, *parts):
        return any(all(part in line for part in parts) for line in self.lines)


@asynccontextmanager
async def ports(n):
    made = [await FakePort().up() for _ in range(n)]
    try:
        yield made
    finally:
        for port in made:
            await port.down()


@asynccontextmanager
async def serving(*engines, **changes):
    """Yields it and what it says, once its router listens."""
    chosen = settings(*engines, **changes)
    told, ending, up = Told(), asyncio.Event(), asyncio.Event()
    one = Serving(chosen, engines_of(engines), told, ARGUMENTS)
    one.start()
    watching = asyncio.create_task(one.watch(ending, lambda address: up.set()))
    try:
        async with asyncio.timeout(LIMIT_S):
            await up.wait()
        yield one, told
    finally:
        ending.set()
        await watching
        await one.stop()


@asynccontextmanager
async def door(one):
    async with grpc.aio.insecure_channel(one.status.router.address) as channel:
        yield rpc.RouterStub(channel), rpc.InspectStub(channel)


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - processes tell nobody here
            await asyncio.sleep(0.02)


def alive(pid):
    process = identify(pid)
    assert process is not None
    return process


def ask(prompt, n):
    sampling = SamplingParams(max_tokens=n, temperature=0.0, ignore_eos=True)
    return pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=sampling_to_proto(sampling))


def expected(prompt, n):
    return alone(prompt, SamplingParams(max_tokens=n, temperature=0.0, ignore_eos=True))


async def ids_of(call):
    """The rest of an answer; a call is read or iterated, never both."""
    ids = []
    while (message := await call.read()) is not grpc.aio.EOF:
        ids += unpack_tokens(message.token_ids).tolist()
    return ids


def lives(one):
    return {status.name: (status.incarnation, status.deaths) for status in one.status.workers}


async def test_two_engines_in_one_process_answer_and_are_told_with_what_they_are():
    async with ports(2) as (a, b):
        engines = (a.url(), f"blue={b.url()}/v1")
        async with serving(*engines, per_process=2) as (one, told):
            await until(lambda: told.have("serving with all 2 engines"))
            assert told.have("engine-0 joined", "fake", a.url(), "block size 4", "2,048 blocks")
            assert told.have("blue joined", b.url())
            async with door(one) as (router, inspect):
                prompt = list(range(1, 30))
                assert await ids_of(router.Generate(ask(prompt, 8))) == expected(prompt, 8)
                listed = await inspect.ListWorkers(pb.ListWorkersRequest())
            assert {(w.worker_id, w.state) for w in listed.workers} == {
                ("engine-0", "live"),
                ("blue", "live"),
            }
            assert len(one.companion_pids) == 1  # for both, and it is not this one
            assert os.getpid() not in one.companion_pids


async def test_streams_go_on_when_a_companion_process_is_killed_and_it_comes_back():
    """What the killed one was streaming goes on in the other, token for token."""
    async with ports(2) as (a, b), serving(a.url(SLOW), b.url(SLOW)) as (one, told):
        await until(lambda: told.have("serving with all 2 engines"))
        before, victim = lives(one), one.companion_pids[0]
        async with door(one) as (router, _inspect):
            prompts = [[1 + n, *range(2, 20)] for n in range(8)]
            calls = [router.Generate(ask(prompt, 100)) for prompt in prompts]
            first = [await call.read() for call in calls]
            assert {message.usage.worker_id for message in first} == {"engine-0", "engine-1"}
            os.kill(victim, signal.SIGKILL)
            rest = await asyncio.gather(*(ids_of(call) for call in calls))
        for prompt, head, tail in zip(prompts, first, rest, strict=True):
            assert unpack_tokens(head.token_ids).tolist() + tail == expected(prompt, 100)
        assert told.have("engine-0 is down", "signal 9")
        await until(lambda: lives(one)["engine-0"][1] == 1 and one.status.is_live)
        after = lives(one)
        assert list(after) == ["engine-0", "engine-1"]
        assert after["engine-0"][0] > max(life for life, _ in before.values())
        assert after["engine-1"] == before["engine-1"]
        assert one.companion_pids[0] != victim


async def test_an_engine_that_is_down_is_waited_for_and_named():
    async with ports(2) as (a, b):
        await b.down()
        async with serving(a.url(), b.url()) as (one, told):
            await until(lambda: told.have("engine-1: waiting for", b.url(), "Connection refused"))
            await until(lambda: told.have("engine-0 joined"))
            async with door(one) as (router, _inspect):
                assert await ids_of(router.Generate(ask([1, 2, 3], 4))) == expected([1, 2, 3], 4)
            assert one.status.workers[1].state is ActorState.STARTING
            await b.up()
            await until(lambda: told.have("serving with all 2 engines"))
            assert one.status.workers[1].deaths == 0


async def test_an_engine_that_ends_is_told_and_joins_again():
    async with ports(1) as (a,), serving(a.url()) as (one, told):
        await until(lambda: told.have("serving with 1 engine"))
        (pid,) = one.companion_pids
        await a.down()
        await until(lambda: told.have("engine-0 is down", "the fake engine ended"))
        await a.up()
        await until(lambda: one.status.is_live and one.status.workers[0].deaths == 1)
        assert one.companion_pids == (pid,)  # another life in the same process


async def test_a_refused_join_is_told_once_with_the_flag_and_tried_again(monkeypatch):
    monkeypatch.setattr("radixroute.deploy.actors.actor_slot.BACKOFF_FIRST_S", 0.01)
    async with ports(2) as (a, b), serving(a.url(), b.url(REFUSED)) as (one, told):
        await until(lambda: one.status.workers[1].deaths >= 3)
        await until(lambda: told.have("engine-0 joined"))
        await until(lambda: told.have("engine-1 cannot join"))
        refusals = [line for line in told.lines if "engine-1 cannot join" in line]
        assert len(refusals) == 1
        assert REFUSAL in refusals[0]


async def test_a_worker_that_the_router_refuses_is_told_with_its_reason():
    async with ports(2) as (a, b), serving(a.url(), b.url(ODD_BLOCKS)) as (_one, told):
        await until(lambda: told.have("refused by the router", "block size"))


async def test_a_companion_process_that_is_told_to_end_drains_and_is_replaced():
    """The engine that is idle goes on in the next process while the other one still drains."""
    async with ports(2) as (a, b), serving(a.url(SLOW), b.url(SLOW), per_process=2) as (one, told):
        await until(lambda: told.have("serving with all 2 engines"))
        (pid,) = one.companion_pids
        process = alive(pid)
        async with door(one) as (router, _inspect):
            call = router.Generate(ask([1, 2, 3], 100))
            first = await call.read()
            os.kill(pid, signal.SIGTERM)
            rest = await ids_of(call)
        assert unpack_tokens(first.token_ids).tolist() + rest == expected([1, 2, 3], 100)
        await until(lambda: told.have("engine-0", "told to end"))
        await until(lambda: one.status.is_live and one.companion_pids != (pid,))
        await until(lambda: not process.is_alive)
        assert [deaths for _, deaths in lives(one).values()] == [1, 1]


async def test_a_router_that_fails_is_made_again_on_its_port():
    async with ports(1) as (a,), serving(a.url()) as (one, told):
        await until(lambda: told.have("serving with 1 engine"))
        before = one.status.router
        one._router()._ticker._task.cancel()  # as a bug of ours would end it
        await until(lambda: told.have("router is down"))
        await until(lambda: len([s for s in told.lines if "serving with 1 engine" in s]) == 2)
        assert one.status.router.address == before.address
        assert one.status.router.incarnation > before.incarnation
        async with door(one) as (router, _inspect):
            assert await ids_of(router.Generate(ask([1, 2, 3], 4))) == expected([1, 2, 3], 4)


async def test_a_companion_process_ends_with_whoever_started_it():
    """No `stop` and no signal: its pipe closes, as when this process is killed."""
    async with ports(1) as (a,), serving(a.url()) as (one, told):
        await until(lambda: told.have("serving with 1 engine"))
        process = alive(one.companion_pids[0])
        one._links._links[0]._writer.close()
        await until(lambda: not process.is_alive)
        await until(lambda: told.have("engine-0 is down", "status 0"))


_MAIN = """
import sys
from radixroute.deploy.serving.serve import serve
from tests.deploy.fake_engines import ARGUMENTS
from tests.e2e.test_serving import settings
chosen = settings(*sys.argv[2:], runtime_dir=sys.argv[1])
sys.exit(serve(chosen, lambda line: print(line, flush=True), ARGUMENTS))
"""


@asynccontextmanager
async def foreground(folder, *engines):
    """The command itself, without its command line; ends killed if nothing else ended it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MAIN, str(folder), *engines, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process, part):
    async with asyncio.timeout(LIMIT_S):
        while part not in (line := (await process.stdout.readline()).decode()):
            assert line, f"it ended before it said {part!r}"
    return line.strip()


async def test_sigterm_drains_streams_whole_and_leaves_nothing_behind(tmp_path):
    async with ports(1) as (a,), foreground(tmp_path, a.url(SLOW)) as process:
        address = (await said(process, "router listens at")).rpartition(" ")[2]
        await said(process, "serving with 1 engine")
        state = (tmp_path / "default.json").read_text()
        assert address in state
        async with grpc.aio.insecure_channel(address) as channel:
            router = rpc.RouterStub(channel)
            call = router.Generate(ask([1, 2, 3], 60))
            first = await call.read()
            process.send_signal(signal.SIGTERM)
            await said(process, "told to end")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ids_of(router.Generate(ask([4, 5], 2)))
            rest = await ids_of(call)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert unpack_tokens(first.token_ids).tolist() + rest == expected([1, 2, 3], 60)
        await said(process, "ended")
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0
        assert not (tmp_path / "default.json").exists()


async def test_a_second_signal_does_not_wait_for_the_drain(tmp_path):
    async with ports(1) as (a,), foreground(tmp_path, a.url(SLOW)) as process:
        address = (await said(process, "router listens at")).rpartition(" ")[2]
        await said(process, "serving with 1 engine")
        async with grpc.aio.insecure_channel(address) as channel:
            call = rpc.RouterStub(channel).Generate(ask([1, 2, 3], 4000))
            await call.read()
            process.send_signal(signal.SIGINT)
            await said(process, "told to end")
            process.send_signal(signal.SIGINT)
            await said(process, "told twice")
            async with asyncio.timeout(LIMIT_S):
                assert await process.wait() == 1
