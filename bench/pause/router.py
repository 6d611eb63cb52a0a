"""A whole router over one worker: `python -m bench.pause.router <worker's port> [<memo's bytes>]`.

Prints its ports of gRPC and, in a line of its own, of HTTP; serves until its input ends. On
uvloop, as in a cluster.
"""

import asyncio
import gc
import sys

import uvloop

from bench.pause.worker import WORKER_ID
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from tests.router.fakes import SECRET


async def main(worker_port: str, memo_bytes: int = RouterSettings().memo_bytes) -> None:
    settings = RouterSettings(
        port=0, metrics_port=None, http_port=0, cluster_secret=SECRET, memo_bytes=memo_bytes
    )
    service = RouterService(settings)
    address = await service.start()
    service.set_members([MemberSpec(WorkerId(WORKER_ID), f"127.0.0.1:{worker_port}", 1)])
    gc.collect()
    gc.freeze()  # as `ServiceHost` does in a cluster
    print(address.port, flush=True)
    if service.http_address is not None:
        print(service.http_address.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    lag = service.runtime.lag_meter.lag
    print(lag.mean_ms, lag.max_ms, flush=True)
    await service.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
