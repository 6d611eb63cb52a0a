"""A router over real workers: engine processes with a fake model."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import grpc

from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.observer import ObserverOf
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings
from tests.router.clusters import all_live, until
from tests.worker.fakes import FAKE_RUNNER, make_tokenizer

SLOW_RUNNER = "tests.worker.fakes:slow_runner"
SECRET = "shared"


@asynccontextmanager
async def fleet(
    *worker_ids: str,
    runner: str = FAKE_RUNNER,
    worker: dict[str, Any] | None = None,
    router: dict[str, Any] | None = None,
    observed_by: ObserverOf | None = None,
):
    """Started workers and a router over them. `worker`, `router`: settings of theirs."""
    workers = {
        w: WorkerService(
            WorkerSettings(
                **{
                    "worker_id": w,
                    "block_size": 4,
                    "kv_memory": 256 * 32,
                    "incarnation": 3,
                    "cluster_secret": SECRET,
                    **(worker or {}),
                }
            ),
            runner=runner,
            tokenizer=make_tokenizer(),
        )
        for w in worker_ids
    }
    service = RouterService(
        RouterSettings(port=0, http_port=0, cluster_secret=SECRET, **(router or {})), observed_by
    )
    try:
        addresses = await asyncio.gather(*(worker.start() for worker in workers.values()))
        address = await service.start()
        service.set_members(
            [
                MemberSpec(WorkerId(w), str(at), 3)
                for w, at in zip(worker_ids, addresses, strict=True)
            ]
        )
        async with grpc.aio.insecure_channel(str(address)) as channel:
            await until(lambda: all_live(service))
            yield service, workers, rpc.RouterStub(channel)
    finally:
        await service.stop()
        await asyncio.gather(*(worker.stop() for worker in workers.values()))
