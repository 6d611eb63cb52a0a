"""A whole router over fake workers: `python -m bench.router.our_router PORT...` (the workers').

Prints its gRPC port and its HTTP port, serves until its input ends. From one line of input to the
next it looks how late its loop runs, then it prints the longest pause in ms. On uvloop, as in a
cluster.
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
LOOK_S = 0.001


class Pauses:
    """The longest time between two turns of this loop that were due each millisecond."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._longest_s = 0.0
        self._due_s = self._loop.time()
        self._timer: asyncio.Handle = self._loop.call_soon(self._turn)

    def stop(self) -> float:
        self._timer.cancel()
        return self._longest_s * 1e3

    def _turn(self) -> None:
        now_s = self._loop.time()
        self._longest_s = max(self._longest_s, now_s - self._due_s)
        self._due_s = now_s + LOOK_S
        self._timer = self._loop.call_at(self._due_s, self._turn)


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
    while await asyncio.to_thread(sys.stdin.readline):
        pauses = Pauses()
        if not await asyncio.to_thread(sys.stdin.readline):
            break
        print(pauses.stop(), flush=True)
    await service.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
