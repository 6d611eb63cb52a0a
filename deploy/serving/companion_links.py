"""Companion links: the companion processes, started, spoken to and ended.

Owns each process and the socket pair to it. What is asked for waits for its answer or for the end
of the process, whichever comes first; that end is `ActorLost` for every life in it. Restarts
nothing: whoever wants a life in a process that is gone gets a fresh one. One event loop.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar, cast

from radixroute.deploy.errors import ActorLost
from radixroute.deploy.state.records import TOLD_TO_END
from radixroute.worker.companion_process.frames import (
    DropLife,
    Ending,
    Failed,
    Order,
    Ping,
    Pong,
    Report,
    Started,
    StartLife,
    StopLife,
    Stopped,
    framed,
    read_report,
)
from radixroute.worker.errors import MalformedMessage

log = logging.getLogger(__name__)

MODULE = "radixroute.worker.companion_process"
# A process that has not answered a ping for so long is stuck: it goes with all its lives. Shorter
# than what its slots wait (`PING_TIMEOUT_S`), so that whoever gives up first finds it so.
STUCK_S = 20.0
EXIT_PATIENCE_S = 5.0  # after its pipe has closed

NO_LIFE = 0  # incarnations begin at 1

Waiter = asyncio.Future[Report]
R = TypeVar("R", Started, Stopped, Pong)


class CompanionLink:
    """One companion process."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Starts it; it is spoken to as soon as it listens."""
        own_end, child_end = socket.socketpair()
        with child_end:
            command = [sys.executable, "-m", MODULE, "--fd", str(child_end.fileno())]
            command += ["--parent", str(os.getpid()), *arguments]
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                pass_fds=(child_end.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for whoever started it
            )
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []  # until the pipe is open
        self._waiters: dict[tuple[type[Report], int], Waiter] = {}
        self._unanswered_s: float | None = None  # when the oldest open ping was sent
        self._lost: str | None = None  # why it is gone
        self._is_ending = False
        self._reading = self._loop.create_task(self._read(own_end), name="companion link")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_here(self) -> bool:
        """It runs, or what it left has not been cleared away."""
        return self._lost is None

    @property
    def takes_lives(self) -> bool:
        return self._lost is None and not self._is_ending

    async def start(self, order: StartLife) -> Started:
        self._waiter(Failed, order.life)  # it may end before anybody asks
        return await self._ask(order, Started, order.life)

    async def stop(self, life: int, drain_s: float) -> None:
        await self._ask(StopLife(life, drain_s), Stopped, life)

    async def ping(self) -> None:
        self._unanswered_s = self._unanswered_s or self._loop.time()
        await self._ask(Ping(), Pong, NO_LIFE)

    async def wait_failed(self, life: int) -> str:
        answer = cast(Failed, await asyncio.shield(self._waiter(Failed, life)))
        return TOLD_TO_END if answer.is_told else answer.reason

    def drop(self, life: int) -> None:
        """Ends one life at once; the whole process where it is stuck."""
        asked_s = self._unanswered_s
        if asked_s is not None and self._loop.time() - asked_s > STUCK_S:
            log.warning("companion process %d does not answer: it is killed", self.pid)
            self.kill()
            return
        self._send(DropLife(life))
        for kind in (Started, Failed, Stopped):
            self._waiters.pop((kind, life), None)

    def kill(self) -> None:
        self._process.kill()

    async def close(self) -> None:
        """Ends the process, by force where it does not go by itself."""
        if self._writer is not None:
            self._writer.close()
        else:
            self.kill()
        await self._loop.run_in_executor(None, _reap, self._process)
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._lose("the companion process was ended")

    async def _ask(self, order: Order, kind: type[R], life: int) -> R:
        waiter = self._waiter(kind, life)
        self._send(order)
        return cast(R, await asyncio.shield(waiter))

    def _waiter(self, kind: type[Report], life: int) -> Waiter:
        """For this report of that life."""
        if self._lost is not None:
            raise ActorLost(self._lost)
        key = (kind, life)
        waiter = self._waiters.get(key)
        if waiter is None:
            waiter = self._waiters[key] = self._loop.create_future()
        return waiter

    def _send(self, order: Order) -> None:
        data = framed(order)
        if self._writer is None:
            self._unsent.append(data)
        elif not self._writer.is_closing():
            self._writer.write(data)

    async def _read(self, own_end: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=own_end)
        for data in self._unsent:
            self._writer.write(data)
        self._unsent.clear()
        try:
            while (report := await read_report(reader)) is not None:
                self._take(report)
        except MalformedMessage as error:
            log.error("companion process %d says what is no report: %s", self.pid, error)
            self.kill()
        self._writer.close()
        await self._loop.run_in_executor(None, _reap, self._process)
        self._lose(f"the companion process (pid {self.pid}) {_ending(self._process)}")

    def _take(self, report: Report) -> None:
        if isinstance(report, Ending):
            self._is_ending = True
            return
        if isinstance(report, Pong):
            self._unanswered_s = None
        waiter = self._waiters.pop((type(report), _life_of(report)), None)
        if waiter is not None and not waiter.done():
            waiter.set_result(report)
        if isinstance(report, Failed) and waiter is not None:
            self._waiters[Failed, report.life] = waiter  # whoever asks later hears it as well

    def _lose(self, reason: str) -> None:
        if self._lost is not None:
            return
        self._lost = reason
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(ActorLost(reason))
                waiter.exception()  # read: nobody may be waiting
        self._waiters.clear()


class CompanionLinks:
    """The processes of one `serve`; so many engines share one."""

    def __init__(self, engines_per_process: int, arguments: Sequence[str]) -> None:
        """`arguments`: more of them, for tests."""
        self._engines_per_process = engines_per_process
        self._arguments = arguments
        self._links: dict[int, CompanionLink] = {}
        self._past: list[CompanionLink] = []  # being ended, or gone

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(link.pid for link in self._links.values())

    def of(self, engine: int) -> CompanionLink:
        """The process that the engine of that place lives in; a fresh one if there is none."""
        place = engine // self._engines_per_process
        link = self._links.get(place)
        if link is None or not link.takes_lives:
            self._past = [one for one in (*self._past, link) if one is not None and one.is_here]
            link = self._links[place] = CompanionLink(self._arguments)
            log.info("companion process %d starts", link.pid)
        return link

    def kill(self) -> None:
        """Ends every process at once."""
        for link in (*self._links.values(), *self._past):
            link.kill()

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in (*self._links.values(), *self._past)))
        self._links.clear()
        self._past.clear()


def _life_of(report: Report) -> int:
    return NO_LIFE if isinstance(report, Pong | Ending) else report.life


def _reap(process: "subprocess.Popen[bytes]") -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(EXIT_PATIENCE_S)
        return
    process.kill()
    process.wait()


def _ending(process: "subprocess.Popen[bytes]") -> str:
    status = process.returncode
    return f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"
