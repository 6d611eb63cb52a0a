"""Worker sessions over gRPC on loopback: streams, bad requests, stops, resumes, aborts, events."""

import asyncio
import os
import signal

import grpc
import numpy as np
import pytest
import pytest_asyncio
import zmq
import zmq.asyncio

from radixroute.events.wire.native import decode_frames
from radixroute.events.wire.records import BlocksStored, EventBatch, Heartbeat
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, unpack_tokens
from tests.worker.fakes import alone, held_back
from tests.worker.serving import (
    PROMPT,
    SLOW_RUNNER,
    TOKENIZER,
    all_blocks_are_free,
    collect,
    ids,
    read_to_end,
    session,
    submit,
    text,
    until,
    worker,
)

# Two workers serve most tests: a start takes a second.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick():
    async with worker() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow():
    async with worker(SLOW_RUNNER) as started:
        yield started


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
        "salt": submit("salt", scope=pb.RequestScope(cache_salt="s" * 1025)),
        "adapter": submit("adapter", scope=pb.RequestScope(lora="nobody's")),
    }
    service, stub, _ = quick
    async with session(stub) as call:
        for message in bad.values():
            await call.write(pb.EngineRequest(submit=message))
        await call.write(pb.EngineRequest(submit=submit("good")))
        deltas = await collect(call, *bad, "good")
        assert service.in_flight == 0
    for name in bad:
        assert [d.finish_reason for d in deltas[name]] == [pb.FINISH_REASON_INVALID]
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
        with held_back():
            await first.write(pb.EngineRequest(submit=submit("same", [1, 2], max_tokens=200)))
            await second.write(pb.EngineRequest(submit=submit("same", [3, 4], max_tokens=200)))
            await until(lambda: service.in_flight == 2)
            await first.write(pb.EngineRequest(abort=pb.AbortRequest(request_id="same", attempt=1)))
            aborted = (await collect(first, "same"))["same"]
        served = (await collect(second, "same"))["same"]
    assert aborted[-1].finish_reason == pb.FINISH_REASON_ABORT
    assert ids(served) == alone([3, 4], SamplingParams(max_tokens=200, ignore_eos=True))


async def test_an_attempt_that_runs_already_is_not_run_twice(slow):
    _, stub, _ = slow
    deltas: list[pb.TokenDelta] = []
    ends: list[pb.FinishReason.ValueType] = []
    async with session(stub) as call:
        with held_back():
            for _ in range(2):
                await call.write(pb.EngineRequest(submit=submit("a", max_tokens=50)))
            while not ends:
                deltas += (await asyncio.wait_for(call.read(), 30)).deltas
                ends = [delta.finish_reason for delta in deltas if delta.finish_reason]
        while len(ends) < 2:
            deltas += (await asyncio.wait_for(call.read(), 30)).deltas
            ends = [delta.finish_reason for delta in deltas if delta.finish_reason]
    assert ends == [pb.FINISH_REASON_INVALID, pb.FINISH_REASON_LENGTH]
    assert len(ids(deltas)) == 50


async def test_an_abort_ends_the_request_and_frees_its_blocks(slow):
    service, stub, _ = slow
    async with session(stub) as call:
        with held_back():
            await call.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
            await call.read()
            await call.write(pb.EngineRequest(abort=pb.AbortRequest(request_id="a", attempt=1)))
            deltas = await collect(call, "a")
        assert deltas["a"][-1].finish_reason == pb.FINISH_REASON_ABORT
        await until(lambda: service.in_flight == 0)
    await all_blocks_are_free(stub)


async def test_whoever_is_asked_for_goes_on_or_has_ended_before_the_answer(slow):
    _, stub, _ = slow

    def asks(*names):
        attempts = [pb.AttemptName(request_id=name, attempt=1) for name in names]
        return pb.EngineRequest(inquire=pb.InquireRequest(attempts=attempts))

    async with session(stub) as call:
        with held_back():
            await call.write(pb.EngineRequest(submit=submit("a", max_tokens=9, ignore_eos=True)))
            part = submit("half")
            part.more_chunks = True
            await call.write(pb.EngineRequest(submit=part))
            await call.write(asks("a", "half", "never"))
        deltas = await collect(call, "a", "never")
        assert deltas["never"][-1].finish_reason == pb.FINISH_REASON_ABORT
        assert deltas["a"][-1].finish_reason == pb.FINISH_REASON_LENGTH
        await call.write(asks("a", "half"))
        assert (await collect(call, "a"))["a"][-1].finish_reason == pb.FINISH_REASON_ABORT
        rest = pb.PromptChunk(request_id="half", attempt=1)
        await call.write(pb.EngineRequest(chunk=rest))
        assert (await collect(call, "half"))["half"][-1].finish_reason == pb.FINISH_REASON_LENGTH


@pytest.mark.parametrize("how", ["cancel", "half-close", "channel"])
async def test_a_session_that_goes_away_frees_its_blocks(how, slow):
    service, stub, _ = slow
    async with grpc.aio.insecure_channel(str(service.address)) as channel:
        call = rpc.EngineStub(channel).Session()
        hello = pb.OpenSession(router_id="r", api_version=API_VERSION)
        await call.write(pb.EngineRequest(open=hello))
        await call.read()
        with held_back():
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
            await until(lambda: service.in_flight == 0, 5)  # 200 tokens take 10 s
    await all_blocks_are_free(stub)


async def test_a_direct_client_streams_one_request_and_its_disconnect_aborts_it(slow):
    service, stub, _ = slow
    deltas = [delta async for delta in stub.Generate(submit("a"))]
    assert ids(deltas) == alone(PROMPT, SamplingParams(max_tokens=8, ignore_eos=True))
    with held_back():
        call = stub.Generate(submit("b", max_tokens=200))
        await call.read()
        assert service.in_flight == 1
        call.cancel()
        await until(lambda: service.in_flight == 0, 5)  # 200 tokens take 10 s
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Generate(submit("c", [])).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_told_to_end_ends_what_runs_whole_though_all_its_processes_were_told():
    async def all_of(call):
        return [delta async for delta in call]

    async with worker(SLOW_RUNNER) as (service, stub, _):
        with held_back():
            running = asyncio.create_task(all_of(stub.Generate(submit("a", max_tokens=30))))
            await until(lambda: service.in_flight == 1, 5)
            assert service.engine_pid is not None
            os.kill(service.engine_pid, signal.SIGTERM)
            stopping = asyncio.create_task(service.stop(drain_s=60.0))
            await asyncio.sleep(0)
            assert service.in_flight == 1
        deltas = await running
        assert ids(deltas) == alone(PROMPT, SamplingParams(max_tokens=30, ignore_eos=True))
        await stopping


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


async def test_events_of_a_worker_tell_which_blocks_it_holds(quick):
    service, stub, _ = quick
    info = await stub.GetInfo(pb.GetInfoRequest())
    context = zmq.asyncio.Context()
    prompt = list(range(50, 90))
    try:
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        socket.subscribe(b"rr1")
        socket.connect(info.events_endpoint)
        beat = decode_frames(await asyncio.wait_for(socket.recv_multipart(), 30))
        assert isinstance(beat, Heartbeat)
        assert beat.load.kv_blocks_total == 256
        async with session(stub) as call:
            await call.write(pb.EngineRequest(submit=submit("a", prompt, max_tokens=1)))
            await collect(call, "a")
        stored: set[int] = set()
        while len(stored) < 10:
            item = decode_frames(await asyncio.wait_for(socket.recv_multipart(), 30))
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


async def test_a_request_that_an_idle_engine_refuses_does_not_run_there_by_its_heartbeats(quick):
    """Nothing steps after it: its age would grow until routers take the worker for stuck."""
    _, stub, _ = quick
    info = await stub.GetInfo(pb.GetInfoRequest())
    context = zmq.asyncio.Context()
    try:
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        socket.subscribe(b"rr1.hb")
        socket.connect(info.events_endpoint)
        async with session(stub) as call:
            unserved = pb.RequestScope(lora="nobody's")
            await call.write(pb.EngineRequest(submit=submit("a", scope=unserved)))
            await collect(call, "a")
            for _ in range(2):  # the first may have been on its way
                beat = decode_frames(await asyncio.wait_for(socket.recv_multipart(), 30))
        assert isinstance(beat, Heartbeat)
        assert not any(one.in_flight for one in beat.load.sessions)
        assert beat.load.step_age_ms == 0.0
    finally:
        context.destroy(linger=0)


async def test_events_in_the_compat_form_are_off_by_default(quick):
    _, stub, _ = quick
    info = await stub.GetInfo(pb.GetInfoRequest())
    assert (info.compat_events_endpoint, info.compat_replay_endpoint) == ("", "")
