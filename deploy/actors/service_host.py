"""Service host: a service in an actor; one loop thread, one service on it, an exit when it fails.

Ray runs an actor's methods on a loop of its own, where they only wait: the service is made, used
and ended on this host's loop alone, as grpc.aio demands. Requests, tokens and events go over the
service's own sockets and never through Ray. No Ray import.
"""

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from radixroute.deploy.actors.loop_thread import LoopThread
from radixroute.deploy.state.records import TOLD_TO_END, StartOutcome
from radixroute.radix.errors import BrokenInvariant
from radixroute.router.errors import PortInUse

log = logging.getLogger(__name__)

# After a failure is known the process stays this long, so that the controller hears the reason
# before it hears of the death.
FAREWELL_S = 1.0
NOTICE_S = 0.5
EXIT_FAILED = 70  # sysexits.h: internal software error
# A port just given up by a dead router may need a moment; more would hide a foreign owner.
PORT_PATIENCE_S = 3.0
PORT_RETRY_S = 0.2


class Address(Protocol):
    """Where a service listens."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Service(Protocol):
    """What `WorkerService` and `RouterService` have in common."""

    async def start(self) -> Address: ...

    async def wait_failed(self) -> str: ...

    async def stop(self, drain_s: float) -> None: ...


S = TypeVar("S", bound=Service)
T = TypeVar("T")


class ServiceHost(Generic[S]):
    """Owns the loop thread and the service made by `make`."""

    def __init__(self, name: str, make: Callable[[], S], drain_s: float = 0.0) -> None:
        """`drain_s`: what its service gets to finish what it has, wherever it is ended in order."""
        self._loop = LoopThread(name)
        self._drain_s = drain_s
        self._make = make
        self._service: S | None = None
        self._starting: asyncio.Task[StartOutcome] | None = None
        self._is_stopping = False
        self._told: asyncio.Future[str] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> StartOutcome:
        """Idempotent: a controller that was restarted asks again."""
        return await self._loop.call(self._start_once())

    async def wait_failed(self) -> str:
        return await self._loop.call(self._wait_ending(self._running()))

    async def ping(self) -> None:
        await self._loop.call(asyncio.sleep(0))

    async def apply(self, change: Callable[[S], T]) -> T:
        """Runs `change` on the service, on its loop; what it returns."""
        return await self._loop.call(self._apply(change))

    async def stop(self) -> None:
        self._is_stopping = True
        if self._service is not None:
            await self._loop.call(self._stop_once(self._service))

    def leave(self) -> None:
        """A signal told this process to end: it drains and exits, whether or not a controller is
        there to hear of it. From any thread; returns at once."""
        self._loop.start(self._leave())

    def _running(self) -> S:
        if self._service is None:
            raise BrokenInvariant("the service was not started")
        return self._service

    async def _apply(self, change: Callable[[S], T]) -> T:
        return change(self._running())

    async def _start_once(self) -> StartOutcome:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> StartOutcome:
        give_up_s = time.monotonic() + PORT_PATIENCE_S
        while True:
            try:
                self._service = self._service or self._make()
                address = await self._service.start()
                break
            except PortInUse as error:
                if time.monotonic() >= give_up_s:
                    return _refusal(error)
            except Exception as error:  # noqa: BLE001 - whatever stops a start reaches the operator
                return _refusal(error)
            await asyncio.sleep(PORT_RETRY_S)
        # Modules and kernels stay for good: a full collection that looks at all of them again holds
        # the loop for a tenth of a second.
        gc.collect()
        gc.freeze()
        log.info("serves at %s:%d", address.host, address.port)
        self._loop.start(self._leave_when_failed(self._service))
        return StartOutcome(address.host, address.port, os.getpid())

    async def _wait_ending(self, service: S) -> str:
        told = self._told_future()
        failed = asyncio.ensure_future(service.wait_failed())
        try:
            await asyncio.wait([told, failed], return_when=asyncio.FIRST_COMPLETED)
            return told.result() if told.done() else failed.result()
        finally:
            failed.cancel()

    def _told_future(self) -> "asyncio.Future[str]":
        if self._told is None:
            self._told = asyncio.get_running_loop().create_future()
        return self._told

    async def _stop_once(self, service: S) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(service.stop(self._drain_s))
        await asyncio.shield(self._stopping)

    async def _leave(self) -> None:
        told = self._told_future()
        if told.done():
            return
        log.info("told to end: what runs may end within %g s", self._drain_s)
        told.set_result(TOLD_TO_END)
        self._is_stopping = True
        # The controller takes it off the router's list, before an idle one closes its sessions.
        await asyncio.sleep(NOTICE_S)
        if self._service is not None:
            await self._stop_once(self._service)
        log.info("ended in order")
        os._exit(0)

    async def _leave_when_failed(self, service: S) -> None:
        """Ends this process after its service: a new life needs a new incarnation."""
        reason = await service.wait_failed()
        if self._is_stopping:
            return
        log.error("service failed: %s", reason)
        await asyncio.sleep(FAREWELL_S)
        os._exit(EXIT_FAILED)


def _refusal(error: Exception) -> StartOutcome:
    log.error("start failed", exc_info=error)
    # Our errors say what to do; of others the kind is half of what they say.
    is_ours = type(error).__module__.startswith("radixroute.")
    return StartOutcome(error=str(error) if is_ours else f"{type(error).__name__}: {error}")
