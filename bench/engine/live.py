"""The engine behind its services: router and worker on loopback, the engine in its own process.

Time to first token as a client of the router sees it, and the pace of steps with many live streams.
Both services run in this process's event loop; nothing is simulated.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from bench.engine.laps import Lap, Stopwatch
from bench.engine.ours import greedy
from radixroute.client import AsyncRouterClient
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import Tokens, WorkerId
from radixroute.request.limits import PartialSampling
from radixroute.request.wire import pack_tokens, sampling_to_proto
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings

JOIN_TIMEOUT_S = 30.0
STEP_TIMEOUT_S = 120.0


@asynccontextmanager
async def live_worker(settings: WorkerSettings) -> AsyncIterator[WorkerService]:
    worker = WorkerService(settings)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def live_client(worker: WorkerService, settings: WorkerSettings) -> AsyncIterator["Client"]:
    """A client of a router that serves from this worker."""
    router = RouterService(RouterSettings(port=0, http_port=0))
    address = await router.start()
    spec = MemberSpec(WorkerId(settings.worker_id), str(worker.address), settings.incarnation)
    router.set_members([spec])
    client = AsyncRouterClient(str(address))
    try:
        await asyncio.wait_for(_joined(client), JOIN_TIMEOUT_S)
        yield Client(client)
    finally:
        await client.close()
        await router.stop()


async def _joined(client: AsyncRouterClient) -> None:
    while True:
        answer = await client.list_workers()
        if any(worker.state == "live" for worker in answer.workers):
            return
        await asyncio.sleep(0.05)


class Client:
    """Asks through the router and takes the time."""

    def __init__(self, router: AsyncRouterClient) -> None:
        self._router = router

    async def first_token(self, prompt: Tokens) -> tuple[Lap, int]:
        """From asking to the first token, and how many prompt tokens were cached."""
        sampling = PartialSampling(temperature=0.0, max_tokens=1, ignore_eos=True)
        watch, lap, cached = Stopwatch(), None, 0
        async for delta in self._router.generate(prompt, sampling):
            if delta.token_ids and lap is None:
                lap = watch.lap(len(prompt))
            cached = delta.usage.cached_tokens if delta.usage else cached
        if lap is None:
            raise RuntimeError("the answer had no tokens")
        return lap, cached


async def live_steps(worker: WorkerService, prompts: Sequence[Tokens], n_steps: int) -> list[Lap]:
    """From one output to the next, for the outputs of steps in which every stream got a token."""
    stubs: Any = rpc  # generated without annotations
    async with grpc.aio.insecure_channel(str(worker.address)) as channel:
        call = stubs.EngineStub(channel).Session()
        opening = pb.OpenSession(router_id="bench", api_version=API_VERSION)
        await call.write(pb.EngineRequest(open=opening))
        await call.read()
        for number, prompt in enumerate(prompts):
            await call.write(pb.EngineRequest(submit=_submit(number, prompt, n_steps)))
        periods = await _full_periods(call, len(prompts))
        call.cancel()
    return periods


async def _full_periods(call: Any, n_streams: int) -> list[Lap]:
    laps: list[Lap] = []
    watch: Stopwatch | None = None
    n_open = n_streams
    while n_open:
        output = await asyncio.wait_for(call.read(), STEP_TIMEOUT_S)
        if output is grpc.aio.EOF:
            raise RuntimeError("the worker ended the session")
        is_full = len(output.deltas) == n_streams
        if is_full and watch is not None:
            laps.append(watch.lap(n_streams))
        watch = Stopwatch() if is_full else None
        n_open -= sum(1 for delta in output.deltas if delta.finish_reason)
    return laps


def _submit(number: int, prompt: Tokens, n_steps: int) -> pb.SubmitRequest:
    return pb.SubmitRequest(
        request_id=f"stream-{number}",
        attempt=1,
        dispatch_seq=number + 1,
        prompt_token_ids=pack_tokens(prompt),
        sampling=sampling_to_proto(greedy(n_steps)),
    )
