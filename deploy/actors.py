"""The processes of a cluster: a worker actor and a router actor, each around one event loop.

An actor runs its service on its own loop thread and answers the controller's few calls; requests,
tokens and events go over the service's own sockets and never through Ray. Ray runs the methods on a
loop of its own, where they only wait: the service is touched by its own loop alone.
No Ray import: `fleet` turns these classes into Ray actors.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from radixroute.deploy.loop_thread import LoopThread
from radixroute.deploy.records import StartOutcome
from radixroute.radix.ids import WorkerId
from radixroute.router.errors import PortInUse
from radixroute.router.members import MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

# After a failure is known the process stays this long, so that the controller hears the reason
# before it hears of the death.
FAREWELL_S = 1.0
EXIT_FAILED = 70  # sysexits.h: internal software error
# A port just given up by a dead router may need a moment; more would hide a foreign owner.
PORT_PATIENCE_S = 3.0
PORT_RETRY_S = 0.2


class WorkerActor:
    """One worker: engine, event publisher and gRPC face, all owned by `WorkerService`."""

    def __init__(self, settings: WorkerSettings, node_address: Callable[[], str] | None) -> None:
        """`node_address` tells the host to bind where it is not the settings' own."""
        self._loop = LoopThread("worker")
        host = settings.host if node_address is None else node_address()
        self._service = WorkerService(replace(settings, host=host))
        self._starting: asyncio.Task[StartOutcome] | None = None

    async def start(self) -> StartOutcome:
        """Idempotent: a controller that was restarted asks again."""
        return await self._loop.call(self._start_once())

    async def wait_failed(self) -> str:
        return await self._loop.call(self._failure())

    async def ping(self) -> None:
        await self._loop.call(asyncio.sleep(0))

    async def stop(self) -> None:
        await self._loop.call(self._service.stop())

    async def _start_once(self) -> StartOutcome:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> StartOutcome:
        try:
            address = await self._service.start()
        except Exception as error:  # noqa: BLE001 - whatever stops a start reaches the operator
            return _refusal(error)
        self._loop.start(self._leave_when_failed())
        return StartOutcome(address.host, address.port, os.getpid())

    async def _failure(self) -> str:
        return str(await self._service.wait_failed() or "its engine process ended")

    async def _leave_when_failed(self) -> None:
        """Ends this process after its engine: a new life needs a new incarnation."""
        log.error("worker failed: %s", await self._failure())
        await asyncio.sleep(FAREWELL_S)
        os._exit(EXIT_FAILED)


class RouterActor:
    """One router: `RouterService` and the membership it is told."""

    def __init__(self, settings: RouterSettings) -> None:
        self._loop = LoopThread("router")
        self._service = RouterService(settings)
        self._starting: asyncio.Task[StartOutcome] | None = None

    async def start(self) -> StartOutcome:
        """Idempotent: a controller that was restarted asks again."""
        return await self._loop.call(self._start_once())

    async def wait_failed(self) -> str:
        """A router ends only with its process: this call then fails instead of returning."""
        await asyncio.Event().wait()
        return ""

    async def ping(self) -> None:
        await self._loop.call(asyncio.sleep(0))

    async def set_members(self, members: tuple[MemberSpec, ...]) -> None:
        await self._loop.call(self._set_members(members))

    async def report_dead(self, worker_id: WorkerId) -> None:
        await self._loop.call(self._report_dead(worker_id))

    async def stop(self) -> None:
        await self._loop.call(self._service.stop())

    async def _start_once(self) -> StartOutcome:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> StartOutcome:
        give_up_s = time.monotonic() + PORT_PATIENCE_S
        while True:
            try:
                address = await self._service.start()
                return StartOutcome(address.host, address.port, os.getpid())
            except PortInUse as error:
                if time.monotonic() >= give_up_s:
                    return _refusal(error)
            except Exception as error:  # noqa: BLE001 - whatever stops a start reaches the operator
                return _refusal(error)
            await asyncio.sleep(PORT_RETRY_S)

    async def _set_members(self, members: tuple[MemberSpec, ...]) -> None:
        self._service.set_members(list(members))

    async def _report_dead(self, worker_id: WorkerId) -> None:
        self._service.report_dead(worker_id)


def _refusal(error: Exception) -> StartOutcome:
    log.error("start failed", exc_info=error)
    return StartOutcome(error=f"{type(error).__name__}: {error}")
