"""A whole worker's life: how it starts, what it says of itself, how it dies."""

import asyncio
import contextlib
import os
import signal
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.keys.scope import Scope
from radixroute.worker.errors import BadSetting, ModelError, PortInUse, StartFailed, UnsafeBind
from radixroute.worker.service import WorkerService
from tests.worker.fakes import FAKE_RUNNER, held_back
from tests.worker.serving import (
    SLOW_RUNNER,
    TOKENIZER,
    all_blocks_are_free,
    collect,
    read_to_end,
    session,
    submit,
    until,
    worker,
    worker_settings,
)


async def test_a_session_that_is_not_read_loses_its_requests():
    changes = {"unread_timeout_s": 0.3, "kv_memory": 1024 * 32}
    async with worker(**changes) as (service, stub, _):
        options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        async with (
            grpc.aio.insecure_channel(str(service.address), options=options) as channel,
            session(rpc.EngineStub(channel)) as call,
        ):
            # Whoever is slow here may find the session ended before its last message is out.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for index in range(16):
                    message = submit(f"r{index}", [index + 1], max_tokens=2000)
                    await call.write(pb.EngineRequest(submit=message))
            await until(lambda: service.unread_sessions == 1)
            await until(lambda: service.in_flight == 0)
            with pytest.raises(grpc.aio.AioRpcError):
                await asyncio.wait_for(read_to_end(call), 30)
        await all_blocks_are_free(stub, 4092)


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
        with held_back():
            await call.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
            while not (await call.read()).deltas:
                pass
            os.kill(service.engine_pid, signal.SIGKILL)
            reason = await asyncio.wait_for(service.wait_failed(), 30)
        assert "signal 9" in reason
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await asyncio.wait_for(read_to_end(call), 30)
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
        assert "failed in a row" in await asyncio.wait_for(service.wait_failed(), 30)


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
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken,  # it would share the port
        pytest.raises(PortInUse, match=r"worker\.port"),
    ):
        await service(port=taken.getsockname()[1]).start()
