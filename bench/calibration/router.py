"""A router over workers: `python -m bench.calibration.router ID=ADDRESS ...`.

Prints its address, serves until its input ends. On uvloop, as in a cluster.
"""

import asyncio
import gc
import sys

import uvloop

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings


async def main(members: list[str]) -> None:
    service = RouterService(RouterSettings(port=0, metrics_port=None, http_port=None))
    address = await service.start()
    named = [member.split("=") for member in members]
    service.set_members([MemberSpec(WorkerId(name), place, 0) for name, place in named])
    gc.collect()
    gc.freeze()  # as `ServiceHost` does in a cluster
    print(address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await service.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
