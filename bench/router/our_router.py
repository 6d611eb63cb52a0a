"""A whole router over fake workers: `python -m bench.router.our_router PORT...` (the workers').

Prints its gRPC port and its HTTP port, serves until its input ends. On uvloop, as in a cluster.
"""

import asyncio
import gc
import sys

import uvloop

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from tests.router.fakes import SECRET

# As many streams as the last row has, and some.
MOST_CLIENTS = 8192


async def main(ports: list[str]) -> None:
    settings = RouterSettings(
        port=0,
        http_port=0,
        cluster_secret=SECRET,
        max_in_flight=MOST_CLIENTS,
        http_max_connections=MOST_CLIENTS,
    )
    service = RouterService(settings)
    address = await service.start()
    service.set_members(
        [MemberSpec(WorkerId(f"w{n}"), f"127.0.0.1:{port}", 1) for n, port in enumerate(ports)]
    )
    gc.collect()
    gc.freeze()  # as `ServiceHost` does in a cluster
    http = service.http_address
    assert http is not None
    print(address.port, http.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await service.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
