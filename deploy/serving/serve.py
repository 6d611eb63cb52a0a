"""`serve`: engines behind a router, in the foreground, until a signal says to end.

Owns the signals and the state file: while it runs, other commands find its router as they find that
of `up`, and `down` ends it. The first SIGTERM or SIGINT drains, the second does not wait.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from radixroute.deploy import actors
from radixroute.deploy.errors import AlreadyRunning
from radixroute.deploy.open_files import allow_files, files_needed
from radixroute.deploy.process_tree import descendants, identify
from radixroute.deploy.serving.engines import engines_of
from radixroute.deploy.serving.serving import Serving
from radixroute.deploy.settings import (
    ClusterSettings,
    check_startable,
    with_secret,
    without_secrets,
)
from radixroute.deploy.state.records import Progress
from radixroute.deploy.state.state_file import (
    ClusterState,
    read_state,
    remove_state,
    runtime_dir,
    write_state,
)

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
CUT_OFF = 1  # exit status: it did not end in order


def serve(settings: ClusterSettings, progress: Progress, arguments: Sequence[str] = ()) -> int:
    """Runs until it is told to end; the exit status. Raises a `DeployError` with what to do.

    `arguments`: of companion processes, for tests.
    """
    engines = engines_of(settings.serve.engines)
    check_startable(settings)
    folder = runtime_dir(settings.runtime_dir)
    running = read_state(folder, settings.name)
    if running is not None and running.is_live:
        raise AlreadyRunning(
            f"{settings.name!r} is up (router {running.router_address}): `radixroute down --name "
            f"{settings.name}` ends it; --name OTHER --port 0 --http-port 0 starts another"
            " beside it"
        )
    allow_files(files_needed(settings.router.http_max_connections))
    # What happens to engines is told in lines of its own; of the rest only what is wrong.
    logging.basicConfig(level=logging.WARNING, format=FORMAT, stream=sys.stderr)
    logging.getLogger(actors.__name__).setLevel(logging.ERROR)
    serving = Serving(with_secret(settings), engines, progress, arguments)
    return uvloop.run(_run(serving, folder, settings, progress))


async def _run(
    serving: Serving, folder: Path, settings: ClusterSettings, progress: Progress
) -> int:
    told, told_twice = asyncio.Event(), asyncio.Event()

    def tell() -> None:
        (told_twice if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)

    def is_up(address: str) -> None:
        write_state(folder, _state(settings, address))

    serving.start()
    try:
        await serving.watch(told, is_up)
        progress(f"told to end: what runs gets {settings.drain_s:g} s to end whole")
        return await _drained(serving, told_twice, progress)
    finally:
        remove_state(folder, settings.name)


async def _drained(serving: Serving, told_twice: asyncio.Event, progress: Progress) -> int:
    stopping = asyncio.create_task(serving.stop())
    again = asyncio.create_task(told_twice.wait())
    await asyncio.wait([stopping, again], return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if stopping.done():
        stopping.result()
        progress("ended")
        return 0
    serving.kill()
    progress("told twice: ended at once, what ran is cut off")
    stopping.cancel()
    await asyncio.wait([stopping])
    return CUT_OFF


def _state(settings: ClusterSettings, address: str) -> ClusterState:
    below = sorted(descendants(os.getpid()), key=lambda process: process.pid)
    return ClusterState(
        settings.name,
        address,
        identify(os.getpid()),
        family=tuple(below),
        settings=without_secrets(settings),
    )
