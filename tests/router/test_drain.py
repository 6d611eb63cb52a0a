"""A router told to end: what runs ends whole, what comes is told UNAVAILABLE."""

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from radixroute.protos import radixroute_pb2 as pb
from tests.router.clusters import (
    PROMPT,
    all_live,
    assert_whole,
    cluster,
    collect,
    request,
    until,
)
from tests.router.fakes import FakeWorker

N = 20
LONG_S = 60.0  # nothing waits for it: what it limits is over long before


async def test_streams_end_whole_and_whoever_comes_is_told_to_come_again():
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        call = asyncio.create_task(collect(router.Generate(request(n=N))))
        await until(lambda: any(one.emitted == 5 for one in worker.live.values()))
        async with grpc.aio.insecure_channel(str(service.address)) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())  # a balancer's: holds up nobody
            while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass  # a tick shows it
            began_s = time.monotonic()
            stopping = asyncio.create_task(service.stop(LONG_S))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            for late in (
                collect(router.Generate(request([7, 7], n=2))),
                router.Route(pb.RouteRequest(request=request([7, 7], n=2))),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match="this router is ending") as raised:
                    await late
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert service.runtime.core.snapshot().counters["requests_refused_draining"] == 2
            worker.hold_after = None
            assert_whole(await call, PROMPT, N)
            await stopping
        assert time.monotonic() - began_s < LONG_S / 2
        service.runtime.core.check()


async def test_a_stream_that_outlasts_the_limit_is_cut_off():
    worker = FakeWorker("a", hold_after=5)
    async with cluster(worker) as (service, router, _):
        await until(lambda: all_live(service))
        call = asyncio.create_task(collect(router.Generate(request(n=N))))
        await until(lambda: any(one.emitted == 5 for one in worker.live.values()))
        await service.stop(0.05)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
