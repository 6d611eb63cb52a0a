"""Actor classes: `WorkerActor` and `RouterActor`, what Ray runs; each around one `ServiceHost`.

`ray_actors` makes Ray actors of them. No Ray import, and no decisions: the controller's few calls
are handed to the service on its own loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from radixroute.deploy.actors.actor_logging import log_to
from radixroute.deploy.actors.own_engine import OwnEngine, ServerSettings
from radixroute.deploy.actors.router_look import look_at
from radixroute.deploy.actors.service_host import ServiceHost
from radixroute.deploy.open_files import allow_files, files_needed
from radixroute.deploy.state.records import RouterLook, StartOutcome
from radixroute.insight.insight import observed_by
from radixroute.insight.settings import InsightSettings
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import AbsentWorker, MemberSpec
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Ending:
    """How an actor ends when it is told to."""

    drain_s: float  # for what it has to end whole
    on_sigterm: Callable[[Callable[[], None]], None]  # has that called when the signal comes


class WorkerActor:
    """One worker: engine, event publisher and gRPC server, all owned by `WorkerService`; and the
    server of another engine, where it has one."""

    def __init__(
        self,
        settings: WorkerSettings,
        node_address: Callable[[], str] | None,
        run_dir: str,
        ending: Ending,
        server: ServerSettings | None = None,
    ) -> None:
        """`node_address` names the host to bind where it is not the settings' own. `server`: of
        another engine, which it starts and ends; None: our own engine."""
        log_to(run_dir, settings.worker_id)
        host = settings.host if node_address is None else node_address()
        worker = replace(settings, host=host)

        def make() -> WorkerService | OwnEngine:
            return WorkerService(worker) if server is None else OwnEngine(worker, server)

        self._host: ServiceHost[WorkerService | OwnEngine]
        self._host = ServiceHost("worker", make, ending.drain_s)
        ending.on_sigterm(self._host.leave)

    async def start(self) -> StartOutcome:
        return await self._host.start()

    async def wait_failed(self) -> str:
        return await self._host.wait_failed()

    async def ping(self) -> None:
        await self._host.ping()

    async def stop(self) -> None:
        await self._host.stop()


class RouterActor:
    """One router: `RouterService` and the membership it is given."""

    def __init__(
        self, settings: RouterSettings, insight: InsightSettings, run_dir: str, ending: Ending
    ) -> None:
        log_to(run_dir, "router")
        allow_files(files_needed(settings.http_max_connections))

        def make() -> RouterService:
            return RouterService(settings, observed_by(insight))

        self._host = ServiceHost("router", make, ending.drain_s)
        ending.on_sigterm(self._host.leave)

    async def start(self) -> StartOutcome:
        return await self._host.start()

    async def wait_failed(self) -> str:
        return await self._host.wait_failed()

    async def ping(self) -> None:
        await self._host.ping()

    async def stop(self) -> None:
        await self._host.stop()

    async def set_members(
        self, members: tuple[MemberSpec, ...], absent: tuple[AbsentWorker, ...]
    ) -> None:
        await self._host.apply(lambda router: router.set_members(members, absent))

    async def report_dead(self, worker_id: WorkerId) -> None:
        await self._host.apply(lambda router: router.report_dead(worker_id))

    async def look(self) -> RouterLook:
        return await self._host.apply(look_at)
