"""Actors without Ray: their lives are ended by the test."""

import asyncio
from dataclasses import dataclass, field

from radixroute.deploy.actors.actor_slot import Actor, Spawner
from radixroute.deploy.errors import ActorLost
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.records import RouterLook, StartOutcome
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import AbsentWorker, MemberSpec


@dataclass
class FakeActor:
    """One life. `die` is kill -9; `fail` is a service that says why it ends."""

    name: str
    incarnation: int
    port: int
    start_error: str | None = None
    is_killed: bool = False
    is_stopped: bool = False
    is_stuck: bool = False
    hangs_at_start: bool = False  # its loop turns and its service never comes up
    pushes: list[tuple[MemberSpec, ...]] = field(default_factory=list)
    absent: tuple[AbsentWorker, ...] = ()
    dead: list[WorkerId] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    is_drained: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_drained.set()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def die(self) -> None:
        if not self._end.done():
            self._end.set_exception(ActorLost("killed"))
            self._end.exception()  # read, so that nobody waiting is no warning

    def fail(self, reason: str) -> None:
        self._end.set_result(reason)

    async def start(self) -> StartOutcome:
        if self.hangs_at_start:
            await self._end  # killed
        if self.start_error is not None:
            return StartOutcome(error=self.start_error)
        return StartOutcome("127.0.0.1", self.port, pid=1000 + self.incarnation)

    async def wait_failed(self) -> str:
        return await asyncio.shield(self._end)

    async def ping(self) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.is_stopped = True
        await self.is_drained.wait()

    def kill(self) -> None:
        self.is_killed = True
        self.die()

    async def set_members(
        self, members: tuple[MemberSpec, ...], absent: tuple[AbsentWorker, ...]
    ) -> None:
        self._check_alive()
        self.absent = absent
        self.calls.append("set_members")
        self.pushes.append(members)

    async def report_dead(self, worker_id: WorkerId) -> None:
        self._check_alive()
        self.calls.append("report_dead")
        self.dead.append(worker_id)

    async def look(self) -> RouterLook:
        self._check_alive()
        return RouterLook()

    def _check_alive(self) -> None:
        if self._end.done():
            raise ActorLost("killed")


class FakeSpawners:
    """Spawns fake actors and remembers every one of them, by name."""

    def __init__(self) -> None:
        self.lives: dict[str, list[FakeActor]] = {}
        self.start_errors: dict[str, str] = {}
        self.policies: list[str | None] = []
        self.unplaced: list[str] = []  # the next life of each of these gets no process
        self.hanging: list[str] = []  # the next life of each of these never comes up

    def worker_spawner(self, worker_id: WorkerId) -> Spawner:
        return _FakeSpawner(self, worker_id, None)

    def router_spawner(self, ledger: Ledger) -> Spawner:
        return _FakeSpawner(self, "router", ledger)

    def current(self, name: str) -> FakeActor:
        return self.lives[name][-1]


@dataclass
class _FakeSpawner:
    spawners: FakeSpawners
    name: str
    ledger: Ledger | None

    def spawn(self, incarnation: int) -> Actor:
        port = 40000 + incarnation
        if self.ledger is not None:
            self.spawners.policies.append(self.ledger.policy)
            port = self.ledger.router_port or port
        actor = FakeActor(
            self.name, incarnation, port, start_error=self.spawners.start_errors.get(self.name)
        )
        if self.name in self.spawners.unplaced:
            self.spawners.unplaced.remove(self.name)
            actor.is_stuck = True
        if self.name in self.spawners.hanging:
            self.spawners.hanging.remove(self.name)
            actor.hangs_at_start = True
        self.spawners.lives.setdefault(self.name, []).append(actor)
        return actor

    def find(self, incarnation: int) -> Actor | None:
        for actor in self.spawners.lives.get(self.name, []):
            if actor.incarnation == incarnation and not actor.is_killed:
                return actor
        return None
