"""A mixed fleet: one vLLM through its companion beside one engine of ours, over the same weights.

All in this process but the engines. The companion takes the fingerprint that our worker says, since
a model's weights cannot be seen over HTTP.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from bench.real_vllm.server import BLOCK_SIZE, NAME, RealVllm
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.companions.companion import companion
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings

JOIN_S = 120.0
POLL_S = 0.05


@asynccontextmanager
async def mixed_fleet(vllm: RealVllm, model: Path) -> AsyncIterator[str]:
    """The router's address, once both serve."""
    secret = secrets.token_hex(16)
    ours = WorkerService(
        WorkerSettings(
            worker_id="ours",
            incarnation=1,
            model=str(model),
            served_model_name=NAME,
            dtype="float32",
            block_size=BLOCK_SIZE,
            max_model_len=vllm.shape.max_model_len,
            cluster_secret=secret,
            metrics_port=None,
        )
    )
    router = RouterService(
        RouterSettings(port=0, http_port=None, metrics_port=None, cluster_secret=secret)
    )
    beside: WorkerService | None = None
    try:
        ours_at = str(await ours.start())
        scope = await _scope(ours_at)
        settings = CompanionSettings(
            model=str(model), fingerprint=scope.model_fingerprint, kv_dtype=scope.kv_dtype
        )
        worker = WorkerSettings(
            worker_id="vllm", incarnation=1, cluster_secret=secret, metrics_port=None
        )
        beside = WorkerService(worker, host=companion(settings, vllm.url, worker))
        beside_at = str(await beside.start())
        address = str(await router.start())
        router.set_members(
            [
                MemberSpec(WorkerId("ours"), ours_at, 1),
                MemberSpec(WorkerId("vllm"), beside_at, 1),
            ]
        )
        await _both_live(address)
        yield address
    finally:
        await router.stop()
        await ours.stop()
        if beside is not None:
            await beside.stop()


async def _scope(address: str) -> pb.Scope:
    async with grpc.aio.insecure_channel(address) as channel:
        info = await rpc.EngineStub(channel).GetInfo(pb.GetInfoRequest())
    found: pb.Scope = info.scope
    return found


async def _both_live(address: str) -> None:
    until_s = time.monotonic() + JOIN_S
    async with grpc.aio.insecure_channel(address) as channel:
        inspect = rpc.InspectStub(channel)
        while time.monotonic() < until_s:
            answer = await inspect.ListWorkers(pb.ListWorkersRequest())
            if [worker.state for worker in answer.workers].count("live") == 2:
                return
            await asyncio.sleep(POLL_S)
    raise SystemExit(f"the mixed fleet did not come up: {answer.workers}")
