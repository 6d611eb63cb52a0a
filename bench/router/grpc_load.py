"""The clients that speak gRPC; they run in the clients' process."""

import asyncio
import time
from collections import deque

import grpc

from bench.router.bodies import prompt_ids
from bench.router.wire import Load, Outcome
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens


def _generate(number: int, max_tokens: int) -> pb.GenerateRequest:
    sampling = pb.SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    return pb.GenerateRequest(token_ids=pack_tokens(prompt_ids(number)), sampling=sampling)


async def run(load: Load) -> Outcome:
    numbers = range(load.first, load.first + load.requests)
    waiting = deque(_generate(number, load.max_tokens) for number in numbers)
    out = Outcome()
    way = {"generate": _streams, "route": _leases, "route_stream": _streamed_leases}[load.way]
    # A call opens many streams; one connection carries them, as a gateway's does.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{load.port}") as channel:
        await channel.channel_ready()
        stub = rpc.RouterStub(channel)
        begun_s = time.perf_counter()
        await asyncio.gather(*(way(stub, waiting, out) for _ in range(load.clients)))
        out.seconds = time.perf_counter() - begun_s
    return out


async def _streams(stub: rpc.RouterStub, waiting: deque[pb.GenerateRequest], out: Outcome) -> None:
    while waiting:
        request = waiting.popleft()
        sent_s, has_begun = time.perf_counter(), False
        async for message in stub.Generate(request):
            if not has_begun:
                has_begun = True
                out.first_ms.append((time.perf_counter() - sent_s) * 1e3)
            out.tokens += len(message.token_ids) // 4
        out.answers += 1


async def _leases(stub: rpc.RouterStub, waiting: deque[pb.GenerateRequest], out: Outcome) -> None:
    while waiting:
        request = waiting.popleft()
        sent_s = time.perf_counter()
        lease = await stub.Route(pb.RouteRequest(request=request))
        out.first_ms.append((time.perf_counter() - sent_s) * 1e3)
        released = await stub.Release(pb.ReleaseRequest(lease_id=lease.lease_id))
        out.answers += released.released


async def _streamed_leases(
    stub: rpc.RouterStub, waiting: deque[pb.GenerateRequest], out: Outcome
) -> None:
    """A stream for each caller, as a gateway's threads have."""
    call = stub.RouteStream()
    while waiting:
        request = waiting.popleft()
        sent_s = time.perf_counter()
        await call.write(pb.RouteStreamRequest(number=1, route=pb.RouteRequest(request=request)))
        lease = (await call.read()).route
        out.first_ms.append((time.perf_counter() - sent_s) * 1e3)
        release = pb.ReleaseRequest(lease_id=lease.lease_id)
        await call.write(pb.RouteStreamRequest(number=2, release=release))
        answer = await call.read()
        out.answers += answer.release.released
    await call.done_writing()
    await call.read()
