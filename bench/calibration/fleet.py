"""A fleet of our engine without Ray: workers and a router as processes of their own.

Owns the processes: each ends when its input does, and an engine with its worker.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from radixroute.client import AsyncRouterClient
from radixroute.errors import FrontDoorError
from radixroute.live.cluster import ClusterFacts, ask_cluster

START_S = 300.0  # kernels may have to be compiled
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Fleet:
    """One that serves, and where its engines note their steps."""

    client: AsyncRouterClient
    facts: ClusterFacts
    step_files: tuple[Path, ...]


@asynccontextmanager
async def own_fleet(model: Path, workers: int, folder: Path) -> AsyncIterator[Fleet]:
    """`folder`: of the files of steps."""
    processes: list[Process] = []
    names = [f"worker-{number}" for number in range(workers)]
    files = tuple(folder / f"{name}.steps" for name in names)
    try:
        members = []
        for name, file in zip(names, files, strict=True):
            place = await _started(processes, "worker", name, str(model), str(file))
            members.append(f"{name}={place}")
        address = await _started(processes, "router", *members)
        async with AsyncRouterClient(address) as client:
            yield Fleet(client, await asyncio.wait_for(_joined(client, workers), START_S), files)
    finally:
        for process in reversed(processes):
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()


async def _started(processes: list[Process], module: str, *args: str) -> str:
    """The first line that the process says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.calibration.{module}", *args, stdin=PIPE, stdout=PIPE
    )
    processes.append(process)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), START_S)
    if not line:
        raise SystemExit(f"the {module} of the benchmark ended; what it said is above")
    return line.decode().strip()


async def _joined(client: AsyncRouterClient, workers: int) -> ClusterFacts:
    while True:
        try:
            facts = await ask_cluster(client)
        except FrontDoorError:
            facts = None
        if facts is not None and len(facts.workers) == workers:
            return facts
        await asyncio.sleep(POLL_S)
