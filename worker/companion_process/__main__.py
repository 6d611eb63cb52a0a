"""The companion process itself, `python -m radixroute.worker.companion_process --fd N ...`.

Owns the pipe, the signals and the exit. Never outlives whoever started it: it dies with its parent
and ends when the pipe closes.
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from radixroute.worker.companion_process.frames import Ending, Report, framed, read_order
from radixroute.worker.companion_process.lives import Lives, MakeService, companion_service
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.child import die_with

log = logging.getLogger("radixroute.worker.companion_process")


def main(arguments: list[str]) -> int:
    """0 when it was told to end or nobody is left to serve for."""
    parser = argparse.ArgumentParser(prog="radixroute.worker.companion_process")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--make", default="", help="module:function(StartLife); for tests")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    # It goes to whole groups of processes: whoever started us ends us in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s companion[%(process)d] %(message)s")
    os.set_inheritable(options.fd, False)
    sock = socket.socket(fileno=options.fd)
    uvloop.run(_serve(sock, _maker(options.make)))
    return 0


async def _serve(sock: socket.socket, make: MakeService) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock)

    def report(one: Report) -> None:
        writer.write(framed(one))

    lives = Lives(make, report)
    is_told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_told.set)
    listening = asyncio.create_task(_listen(reader, lives))
    leaving = asyncio.create_task(_leave(is_told, lives, report))
    await asyncio.wait([listening, leaving], return_when=asyncio.FIRST_COMPLETED)
    for task in (listening, leaving):
        task.cancel()
    await lives.close()
    writer.close()


async def _listen(reader: asyncio.StreamReader, lives: Lives) -> None:
    try:
        while (order := await read_order(reader)) is not None:
            lives.take(order)
    except MalformedMessage as error:
        log.error("the pipe brings what is no order: %s", error)


async def _leave(is_told: asyncio.Event, lives: Lives, report: Callable[[Report], None]) -> None:
    """After SIGTERM: until whoever started us has ended every life."""
    await is_told.wait()
    report(Ending())
    lives.leave()
    await lives.wait_over()


def _maker(name: str) -> MakeService:
    if not name:
        return companion_service
    module, _, function = name.partition(":")
    made: MakeService = getattr(importlib.import_module(module), function)
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
