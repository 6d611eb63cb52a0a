"""Process actors: a life in a companion process, and the router here, behind the actors' seams.

What `ray_actors` is on Ray. The router lives in this process and on this loop: a request need cross
no other.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from radixroute.deploy.actors.router_look import look_at
from radixroute.deploy.errors import ActorLost
from radixroute.deploy.serving.companion_links import CompanionLink, CompanionLinks
from radixroute.deploy.serving.engines import EngineAt
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.records import RouterLook, StartOutcome
from radixroute.deploy.state.state_file import runtime_dir
from radixroute.events.net.bind import is_loopback
from radixroute.insight.insight import observed_by
from radixroute.radix.ids import WorkerId
from radixroute.router.errors import RouterError
from radixroute.router.messages.inputs import AbsentWorker, MemberSpec
from radixroute.router.service import RouterService
from radixroute.worker.api.frames.frame_socket import has_room
from radixroute.worker.companion_process.frames import EngineFacts, StartLife
from radixroute.worker.settings import WorkerSettings

SESSIONS = "-sessions"  # behind the cluster's name: the folder of its worker sessions' sockets

Told = Callable[[WorkerId, EngineFacts], None]


class CompanionActor:
    """One life of one engine's companion. Implements `Actor`."""

    def __init__(self, link: CompanionLink, order: StartLife, drain_s: float, told: Told) -> None:
        """`told` hears what the engine said of itself when it joined."""
        self._link = link
        self._order = order
        self._drain_s = drain_s
        self._told = told

    async def start(self) -> StartOutcome:
        started = await self._link.start(self._order)
        if started.error is not None:
            return StartOutcome(error=started.error)
        if started.facts is not None:
            self._told(WorkerId(self._order.worker.worker_id), started.facts)
        return StartOutcome(started.host, started.port, self._link.pid)

    async def wait_failed(self) -> str:
        return await self._link.wait_failed(self._order.life)

    async def ping(self) -> None:
        await self._link.ping()

    async def stop(self) -> None:
        await self._link.stop(self._order.life, self._drain_s)

    def kill(self) -> None:
        self._link.drop(self._order.life)


class RouterHere:
    """One life of the router in this process. Implements `RouterHandle`."""

    def __init__(
        self, service: RouterService, drain_s: float, before: "RouterHere | None" = None
    ) -> None:
        """`before`: the life before this one, which may still hold the port."""
        self.service = service
        self._drain_s = drain_s
        self._before = before
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> StartOutcome:
        if self._before is not None:
            await self._before.wait_ended()
            self._before = None
        try:
            address = await self.service.start()
        except RouterError as error:
            return StartOutcome(error=str(error))
        return StartOutcome(address.host, address.port, os.getpid())

    async def wait_failed(self) -> str:
        return await self.service.wait_failed()

    async def ping(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.service.stop(self._drain_s)

    def kill(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self.service.stop())

    async def wait_ended(self) -> None:
        """Until what it held is free again, once it was killed."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    async def set_members(
        self, members: tuple[MemberSpec, ...], absent: tuple[AbsentWorker, ...]
    ) -> None:
        self._living().set_members(members, absent)

    async def report_dead(self, worker_id: WorkerId) -> None:
        self._living().report_dead(worker_id)

    async def look(self) -> RouterLook:
        return look_at(self._living())

    def _living(self) -> RouterService:
        if self._ending is not None:
            raise ActorLost("the router has ended")
        return self.service


@dataclass(frozen=True, slots=True)
class CompanionSpawner:
    """Makes the lives of one engine. Nothing outlives this process, so none is found again."""

    settings: ClusterSettings
    engine: EngineAt
    place: int  # in the list of engines
    links: CompanionLinks
    told: Told

    def spawn(self, incarnation: int) -> CompanionActor:
        worker = beside_router(
            replace(
                self.settings.worker, worker_id=self.engine.name, incarnation=incarnation, port=0
            ),
            runtime_dir(self.settings.runtime_dir) / f"{self.settings.name}{SESSIONS}",
        )
        order = StartLife(incarnation, self.engine.url, worker, self.settings.companion)
        link = self.links.of(self.place)
        return CompanionActor(link, order, self.settings.drain_s, self.told)

    def find(self, incarnation: int) -> CompanionActor | None:
        return None


class RouterSpawner:
    """Makes the lives of the router here, on one port."""

    def __init__(self, settings: ClusterSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self.current: RouterHere | None = None

    def spawn(self, incarnation: int) -> RouterHere:
        settings = replace(
            self._settings.router,
            policy=self._ledger.policy or self._settings.router.policy,
            port=self._ledger.router_port or self._settings.router.port,
        )
        service = RouterService(settings, observed_by(self._settings.insight))
        self.current = RouterHere(service, self._settings.drain_s, self.current)
        return self.current

    def find(self, incarnation: int) -> RouterHere | None:
        return None


class ServeSpawners:
    """The spawners of one `serve`. Implements `ActorSpawners`."""

    def __init__(
        self, settings: ClusterSettings, engines: tuple[EngineAt, ...], links: CompanionLinks
    ) -> None:
        self._settings = settings
        self._engines = {engine.name: (place, engine) for place, engine in enumerate(engines)}
        self._links = links
        self.facts: dict[WorkerId, EngineFacts] = {}  # of the last life that joined
        self.router: RouterSpawner | None = None

    def worker_spawner(self, worker_id: WorkerId) -> CompanionSpawner:
        place, engine = self._engines[worker_id]
        return CompanionSpawner(self._settings, engine, place, self._links, self.facts.__setitem__)

    def router_spawner(self, ledger: Ledger) -> RouterSpawner:
        self.router = RouterSpawner(self._settings, ledger)
        return self.router


def beside_router(worker: WorkerSettings, folder: Path) -> WorkerSettings:
    """Worker sessions over a Unix socket there, unless they were laid out otherwise, or a name is
    too long for it."""
    is_laid_out = worker.session_dir or worker.session_port or not is_loopback(worker.host)
    here = replace(worker, session_dir=str(folder))
    return worker if is_laid_out or not has_room(here) else here
