"""How soon a full house says so: real gRPC, a real router, on loopback."""

import asyncio
import time

import grpc

from radixroute.protos import radixroute_pb2_grpc as rpc
from tests.router.clusters import PROMPT, all_live, cluster, request, until
from tests.router.fakes import FakeWorker

IN_FLIGHT = 8
CALLS = 1000
AT_ONCE = 4  # clients that ask again as soon as they are refused; they share our one loop


async def _refused_ms(router: rpc.RouterStub, n: int) -> list[float]:
    taken = []
    for _ in range(n):
        started = time.perf_counter()
        try:
            async for _message in router.Generate(request(PROMPT)):
                pass
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            taken.append(1000 * (time.perf_counter() - started))
    return taken


async def refusals_ms() -> list[float]:
    """One for each of `CALLS` calls by `AT_ONCE` clients, all refused; sorted."""
    worker = FakeWorker("a", hold_after=1)
    async with cluster(worker, max_in_flight=IN_FLIGHT) as (service, router, _):
        await until(lambda: all_live(service))
        calls = [router.Generate(request([*PROMPT, n])) for n in range(IN_FLIGHT)]
        running = [asyncio.ensure_future(call.read()) for call in calls]
        await until(lambda: service.runtime.core.n_running == IN_FLIGHT)
        share = CALLS // AT_ONCE
        taken = await asyncio.gather(*(_refused_ms(router, share) for _ in range(AT_ONCE)))
        for call in calls:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return sorted(ms for part in taken for ms in part)
