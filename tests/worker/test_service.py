"""A whole worker over a fake model: real process, real gRPC on loopback, real event sockets."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.scope import Scope
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, sampling_to_proto, unpack_tokens
from radixroute.worker.errors import BadSetting, ModelError, PortInUse, StartFailed, UnsafeBind
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FAKE_RUNNER, alone, make_tokenizer

SLOW_RUNNER = "tests.worker.fakes:slow_runner"
PROMPT = list(range(1, 41))
TOKENIZER = make_tokenizer()


def worker_settings(**changes):
    return WorkerSettings(**{"block_size": 4, "kv_memory": 256 * 32, "incarnation": 5, **changes})


# Two workers serve most tests: a start takes a second.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def worker(runner=FAKE_RUNNER, **changes):
    service = WorkerService(worker_settings(**changes), runner=runner, tokenizer=TOKENIZER)
    address = await service.start()
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            yield service, rpc.EngineStub(channel), channel
    finally:
        await service.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick():
    async with worker() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow():
    async with worker(SLOW_RUNNER) as started:
        yield started


def submit(request_id, prompt=PROMPT, attempt=1, emitted=(), text_len=0, seq=1, **sampling):
    complete = SamplingParams(**{"max_tokens": 8, "ignore_eos": True, **sampling})
    resume = pb.ResumeState(emitted_token_ids=pack_tokens(emitted), emitted_text_len=text_len)
    return pb.SubmitRequest(
        request_id=request_id,
        attempt=attempt,
        dispatch_seq=seq,
        prompt_token_ids=pack_tokens(prompt),
        sampling=sampling_to_proto(complete),
        resume=resume if len(emitted) else None,
    )


@asynccontextmanager
async def session(stub, router_id="r"):
    call = stub.Session()
    await call.write(
        pb.EngineRequest(open=pb.OpenSession(router_id=router_id, api_version=API_VERSION))
    )
    first = await call.read()
    assert first.opened
    try:
        yield call
    finally:
        call.cancel()


async def collect(call, *names):
    """Deltas by request id until each of them ended."""
    deltas: dict[str, list[pb.TokenDelta]] = {name: [] for name in names}
    open_names = set(names)
    while open_names:
        message = await asyncio.wait_for(call.read(), 20)
        assert message is not grpc.aio.EOF, f"session ended: {await call.details()}"
        assert len({(d.request_id, d.attempt) for d in message.deltas}) == len(message.deltas)
        for delta in message.deltas:
            deltas[delta.request_id].append(delta)
            if delta.finish_reason:
                open_names.discard(delta.request_id)
    return deltas


async def read_to_end(call):
    while await call.read() is not grpc.aio.EOF:
        pass


async def all_blocks_are_free(stub):
    """A request that needs the whole pool would wait for ever if one block were still pinned."""
    async with session(stub) as call:
        whole = submit("whole", [1] * 1020, max_tokens=4)
        await call.write(pb.EngineRequest(submit=whole))
        deltas = await collect(call, "whole")
        assert deltas["whole"][-1].finish_reason == pb.FINISH_REASON_LENGTH


def ids(deltas):
    return [token for delta in deltas for token in unpack_tokens(delta.token_ids).tolist()]


def text(deltas):
    return "".join(delta.text for delta in deltas)


async def until(condition, timeout_s=10.0):
    # The worker tells nobody but its own callers: polling is all that is left.
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_session_streams_tokens_and_text_of_many_requests(quick):
    _, stub, _ = quick
    async with session(stub) as call:
        names = [f"r{index}" for index in range(6)]
        for seq, name in enumerate(names, start=1):
            message = submit(name, [*PROMPT, seq], seq=seq, max_tokens=12)
            await call.write(pb.EngineRequest(submit=message))
        deltas = await collect(call, *names)
    for seq, name in enumerate(names, start=1):
        wanted = alone([*PROMPT, seq], SamplingParams(max_tokens=12, ignore_eos=True))
        assert ids(deltas[name]) == wanted
        assert text(deltas[name]) == TOKENIZER.decode(wanted)
        assert [d.position for d in deltas[name]] == list(range(12))
        assert deltas[name][-1].finish_reason == pb.FINISH_REASON_LENGTH
        assert [d.HasField("prompt") for d in deltas[name]] == [True] + [False] * 11
    assert deltas["r5"][0].prompt.cached_tokens == 40


async def test_a_long_prompt_may_come_in_chunks(quick):
    _, stub, _ = quick
    async with session(stub) as call:
        whole = submit("a")
        head = submit("a", PROMPT[:10])
        head.more_chunks = True
        await call.write(pb.EngineRequest(submit=head))
        for start, more in ((10, True), (25, False)):
            part = PROMPT[start : start + 15]
            chunk = pb.PromptChunk(
                request_id="a", attempt=1, prompt_token_ids=pack_tokens(part), more_chunks=more
            )
            await call.write(pb.EngineRequest(chunk=chunk))
        deltas = await collect(call, "a")
    assert ids(deltas["a"]) == alone(PROMPT, SamplingParams(max_tokens=8, ignore_eos=True))
    assert unpack_tokens(whole.prompt_token_ids).tolist() == PROMPT


async def test_a_bad_request_ends_itself_and_never_the_session(quick):
    torn = submit("torn")
    torn.prompt_token_ids = b"123"
    unset = submit("unset")
    unset.sampling.ClearField("top_p")
    bad = {
        "empty": submit("empty", []),
        "range": submit("range", [97]),
        "long": submit("long", [1] * 5000),
        "room": submit("room", max_tokens=100_000),
        "torn": torn,
        "unset": unset,
        "emitted": submit("emitted", emitted=[1] * 9),
    }
    service, stub, _ = quick
    async with session(stub) as call:
        for message in bad.values():
            await call.write(pb.EngineRequest(submit=message))
        await call.write(pb.EngineRequest(submit=submit("good")))
        deltas = await collect(call, *bad, "good")
        assert service.in_flight == 0
    for name in bad:
        assert [d.finish_reason for d in deltas[name]] == [pb.FINISH_REASON_ERROR]
        assert deltas[name][0].error
    assert deltas["good"][-1].finish_reason == pb.FINISH_REASON_LENGTH


async def test_a_stop_string_cuts_the_text_and_ends_the_request_in_the_engine(slow):
    wanted = alone(PROMPT, SamplingParams(max_tokens=40, ignore_eos=True))
    whole = TOKENIZER.decode(wanted)
    stop = whole[6:9]
    assert "\ufffd" not in whole[:10]
    service, stub, _ = slow
    async with session(stub) as call:
        message = submit("a", max_tokens=200, stop=(stop,))
        await call.write(pb.EngineRequest(submit=message))
        deltas = await collect(call, "a")
        assert text(deltas["a"]) == whole[: whole.index(stop)]
        assert deltas["a"][-1].finish_reason == pb.FINISH_REASON_STOP
        assert ids(deltas["a"]) == wanted[: len(ids(deltas["a"]))]
        assert len(ids(deltas["a"])) < 15
        await call.write(pb.EngineRequest(submit=submit("b")))
        await collect(call, "b")
        assert service.in_flight == 0


async def test_a_resume_at_any_position_repeats_and_loses_no_text(quick):
    sampling = {"max_tokens": 12, "stop": ("zzz",)}
    wanted = alone(PROMPT, SamplingParams(max_tokens=12, ignore_eos=True))
    _, stub, _ = quick
    async with session(stub) as call:
        await call.write(pb.EngineRequest(submit=submit("a", **sampling)))
        whole = (await collect(call, "a"))["a"]
        for n_emitted in range(12):
            emitted, shown = ids(whole[:n_emitted]), text(whole[:n_emitted])
            again = submit("a", attempt=2, emitted=emitted, text_len=len(shown), **sampling)
            await call.write(pb.EngineRequest(submit=again))
            after = (await collect(call, "a"))["a"]
            assert emitted + ids(after) == wanted
            assert shown + text(after) == TOKENIZER.decode(wanted)
            assert after[0].position == n_emitted
            assert {delta.attempt for delta in after} == {2}


async def test_two_callers_with_the_same_request_id_never_meet(slow):
    service, stub, _ = slow
    async with session(stub, "r1") as first, session(stub, "r2") as second:
        await first.write(pb.EngineRequest(submit=submit("same", [1, 2], max_tokens=200)))
        await second.write(pb.EngineRequest(submit=submit("same", [3, 4], max_tokens=30)))
        await until(lambda: service.in_flight == 2)
        await first.write(pb.EngineRequest(abort=pb.AbortRequest(request_id="same", attempt=1)))
        aborted = (await collect(first, "same"))["same"]
        served = (await collect(second, "same"))["same"]
    assert aborted[-1].finish_reason == pb.FINISH_REASON_ABORT
    assert ids(served) == alone([3, 4], SamplingParams(max_tokens=30, ignore_eos=True))


async def test_an_attempt_that_runs_already_is_not_run_twice(slow):
    _, stub, _ = slow
    async with session(stub) as call:
        for _ in range(2):
            await call.write(pb.EngineRequest(submit=submit("a", max_tokens=50)))
        deltas: list[pb.TokenDelta] = []
        while len([d for d in deltas if d.finish_reason]) < 2:
            deltas += (await asyncio.wait_for(call.read(), 10)).deltas
    ends = [delta.finish_reason for delta in deltas if delta.finish_reason]
    assert ends == [pb.FINISH_REASON_ERROR, pb.FINISH_REASON_LENGTH]
    assert len(ids(deltas)) == 50


async def test_an_abort_ends_the_request_and_frees_its_blocks(slow):
    service, stub, _ = slow
    async with session(stub) as call:
        await call.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
        await call.read()
        await call.write(pb.EngineRequest(abort=pb.AbortRequest(request_id="a", attempt=1)))
        deltas = await collect(call, "a")
        assert deltas["a"][-1].finish_reason == pb.FINISH_REASON_ABORT
        await until(lambda: service.in_flight == 0)
    await all_blocks_are_free(stub)


@pytest.mark.parametrize("how", ["cancel", "half-close", "channel"])
async def test_a_session_that_goes_away_frees_its_blocks(how, slow):
    service, stub, _ = slow
    async with grpc.aio.insecure_channel(str(service.address)) as channel:
        call = rpc.EngineStub(channel).Session()
        hello = pb.OpenSession(router_id="r", api_version=API_VERSION)
        await call.write(pb.EngineRequest(open=hello))
        await call.read()
        await call.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
        while not (await call.read()).deltas:
            pass
        assert service.in_flight == 1
        if how == "cancel":
            call.cancel()
        elif how == "half-close":
            await call.done_writing()
            await read_to_end(call)
        else:
            await channel.close()
        await until(lambda: service.in_flight == 0)
    await all_blocks_are_free(stub)


async def test_a_direct_client_streams_one_request_and_its_disconnect_aborts_it(slow):
    service, stub, _ = slow
    deltas = [delta async for delta in stub.Generate(submit("a"))]
    assert ids(deltas) == alone(PROMPT, SamplingParams(max_tokens=8, ignore_eos=True))
    call = stub.Generate(submit("b", max_tokens=200))
    await call.read()
    assert service.in_flight == 1
    call.cancel()
    await until(lambda: service.in_flight == 0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Generate(submit("c", [])).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_session_that_is_not_read_loses_its_requests():
    changes = {"unread_timeout_s": 0.3, "kv_memory": 2048 * 32}
    async with worker(**changes) as (service, _, _):
        options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(str(service.address), options=options) as channel:
            stub = rpc.EngineStub(channel)
            async with session(stub) as call:
                for index in range(16):
                    message = submit(f"r{index}", [index + 1], max_tokens=2000)
                    await call.write(pb.EngineRequest(submit=message))
                await until(lambda: service.in_flight == 16)
                await until(lambda: service.unread_sessions == 1)
                await until(lambda: service.in_flight == 0)


async def test_a_session_of_another_api_version_is_refused(quick):
    _, stub, _ = quick
    for first, code in (
        (pb.OpenSession(router_id="r", api_version=99), grpc.StatusCode.FAILED_PRECONDITION),
        (None, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        call = stub.Session()
        hello = pb.EngineRequest(open=first) if first else pb.EngineRequest(submit=submit("a"))
        await call.write(hello)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is code


async def test_info_and_tokenizer_are_what_a_router_needs():
    async with worker(cluster_secret="hush") as (service, stub, _):
        info = await stub.GetInfo(pb.GetInfoRequest())
        scope = Scope(info.scope.model_fingerprint, info.block_size, info.scope.kv_dtype)
        with_secret = Scope(
            info.scope.model_fingerprint, 4, info.scope.kv_dtype, cluster_secret=b"hush"
        )
        assert info.scope_fingerprint == with_secret.fingerprint != scope.fingerprint
        assert bytes.fromhex(info.epoch) == service.epoch
        assert service.epoch[:8] == (5).to_bytes(8, "big")
        assert info.tokenizer_fingerprint == TOKENIZER.fingerprint
        assert (info.block_size, info.vocab_size, info.api_version) == (4, 97, API_VERSION)
        files: dict[str, bytes] = {}
        name = ""
        async for chunk in stub.GetTokenizer(pb.GetTokenizerRequest()):
            name = chunk.file_name or name
            files[name] = files.get(name, b"") + chunk.data
        assert files == TOKENIZER.files()


async def test_a_killed_engine_ends_sessions_health_and_worker_at_once():
    async with worker(SLOW_RUNNER) as (service, stub, channel), session(stub) as call:
        health = health_pb2_grpc.HealthStub(channel)
        check = health_pb2.HealthCheckRequest(service="radixroute.v1.Engine")
        assert (await health.Check(check)).status == health_pb2.HealthCheckResponse.SERVING
        await call.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
        while not (await call.read()).deltas:
            pass
        os.kill(service.engine_pid, signal.SIGKILL)
        reason = await asyncio.wait_for(service.wait_failed(), 1.0)
        assert "signal 9" in reason
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await asyncio.wait_for(read_to_end(call), 5)
        assert broken.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await health.Check(check)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Session().read()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_engine_that_keeps_failing_fails_its_requests_then_the_worker():
    runner = "tests.worker.fakes:failing_runner"
    async with worker(runner) as (service, stub, _), session(stub) as call:
        for name in "ab":
            await call.write(pb.EngineRequest(submit=submit(name)))
            deltas = await collect(call, name)
            assert deltas[name][0].finish_reason == pb.FINISH_REASON_ERROR
        await call.write(pb.EngineRequest(submit=submit("c")))
        assert "failed in a row" in await asyncio.wait_for(service.wait_failed(), 5)


async def test_starts_that_cannot_work_say_what_to_do(tmp_path):
    def service(runner=FAKE_RUNNER, tokenizer=TOKENIZER, **changes):
        return WorkerService(worker_settings(**changes), runner=runner, tokenizer=tokenizer)

    with pytest.raises(UnsafeBind, match="insecure_bind"):
        service(host="0.0.0.0")
    with pytest.raises(StartFailed, match="put one there"):
        await service("tests.worker.fakes:broken_runner").start()
    with pytest.raises(StartFailed, match="kv_memory"):
        await service(kv_memory=1).start()
    with pytest.raises(StartFailed, match="exit code 3"):
        await service("tests.worker.fakes:dying_runner").start()
    with pytest.raises(BadSetting, match="is not set"):
        await service(tokenizer=None).start()
    with pytest.raises(ModelError, match="no model at"):
        await service(tokenizer=None, model=str(tmp_path / "nothing")).start()
    async with worker() as (first, _, _):
        with pytest.raises(PortInUse, match=r"worker\.port"):
            await service(port=first.address.port).start()


async def test_events_of_a_worker_tell_which_blocks_it_holds(quick):
    import zmq.asyncio

    from radixroute.events.native import decode_frames
    from radixroute.events.records import BlocksStored, EventBatch, Heartbeat
    from radixroute.radix.keys import block_keys

    service, stub, _ = quick
    info = await stub.GetInfo(pb.GetInfoRequest())
    context = zmq.asyncio.Context()
    prompt = list(range(50, 90))  # of no other test: it must be stored anew
    try:
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        socket.subscribe(b"rr1")
        socket.connect(info.events_endpoint)
        beat = decode_frames(await asyncio.wait_for(socket.recv_multipart(), 5))
        assert isinstance(beat, Heartbeat)
        assert beat.load.kv_blocks_total == 256
        async with session(stub) as call:
            await call.write(pb.EngineRequest(submit=submit("a", prompt, max_tokens=1)))
            await collect(call, "a")
        stored: set[int] = set()
        while len(stored) < 10:
            item = decode_frames(await asyncio.wait_for(socket.recv_multipart(), 5))
            if isinstance(item, EventBatch):
                assert item.epoch == service.epoch
                stored |= {
                    key
                    for event in item.events
                    if isinstance(event, BlocksStored)
                    for key in event.keys.tolist()
                }
        scope = Scope(info.scope.model_fingerprint, 4, info.scope.kv_dtype)
        tokens = np.array(prompt, dtype=np.uint32)
        assert stored == set(block_keys(tokens, 4, scope.seed).tolist())
    finally:
        context.destroy(linger=0)
