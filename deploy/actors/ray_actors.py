"""Ray actors: makes them, finds them again, and turns Ray's errors into ours.

Workers and routers are *detached* and named after their incarnation: they outlive the controller's
process, and its successor finds them by name. They never restart by themselves (`max_restarts=0`):
a new life needs a new incarnation, which only the supervisor gives.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from radixroute.deploy.actors.actor_classes import Ending, RouterActor, WorkerActor
from radixroute.deploy.actors.own_engine import ServerSettings
from radixroute.deploy.errors import ActorLost
from radixroute.deploy.ray_env import (
    NodeAffinitySchedulingStrategy,
    RayError,
    RayTaskError,
    get_node_ip_address,
    on_sigterm,
    ray,
)
from radixroute.deploy.settings import OWN_ENGINE, ClusterSettings
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.records import RouterLook, StartOutcome
from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import AbsentWorker, MemberSpec

NAMESPACE = "radixroute"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RayActor:
    """One Ray actor behind the `Actor` and `RouterHandle` seams."""

    handle: Any  # ray.actor.ActorHandle has no useful type

    async def start(self) -> StartOutcome:
        return cast(StartOutcome, await _answer(self.handle.start.remote()))

    async def wait_failed(self) -> str:
        return cast(str, await _answer(self.handle.wait_failed.remote()))

    async def ping(self) -> None:
        await _answer(self.handle.ping.remote())

    async def stop(self) -> None:
        await _answer(self.handle.stop.remote())

    async def set_members(
        self, members: tuple[MemberSpec, ...], absent: tuple[AbsentWorker, ...]
    ) -> None:
        await _answer(self.handle.set_members.remote(members, absent))

    async def report_dead(self, worker_id: WorkerId) -> None:
        await _answer(self.handle.report_dead.remote(worker_id))

    async def look(self) -> RouterLook:
        return cast(RouterLook, await _answer(self.handle.look.remote()))

    def kill(self) -> None:
        with suppress(RayError):
            ray.kill(self.handle, no_restart=True)


@dataclass(frozen=True, slots=True)
class RaySpawner:
    """Spawns the actors of one slot: `make(incarnation)` is the Ray call that does it."""

    name: str
    make: Callable[[str, int], Any]

    def spawn(self, incarnation: int) -> RayActor:
        return RayActor(self.make(self._life(incarnation), incarnation))

    def find(self, incarnation: int) -> RayActor | None:
        try:
            return RayActor(ray.get_actor(self._life(incarnation), namespace=NAMESPACE))
        except ValueError:  # what Ray raises for a name nobody has
            return None

    def _life(self, incarnation: int) -> str:
        return f"{self.name}:{incarnation}"


@dataclass(frozen=True, slots=True)
class RaySpawners:
    """The spawners of one cluster. Lives in the controller, on the router's node."""

    settings: ClusterSettings
    node_id: str
    run_dir: str  # where actors on this node log to; empty: nowhere but stderr

    def worker_spawner(self, worker_id: WorkerId) -> RaySpawner:
        settings = self.settings

        def make(name: str, incarnation: int) -> Any:
            worker = replace(settings.worker, worker_id=worker_id, incarnation=incarnation)
            options = _options(name) | {
                "num_cpus": settings.num_cpus_per_worker,
                "num_gpus": settings.num_gpus_per_worker,
                "scheduling_strategy": "SPREAD" if settings.spread else self._own_node(),
            }
            node_address = get_node_ip_address if settings.spread else None
            return (
                ray.remote(WorkerActor)
                .options(**options)
                .remote(worker, node_address, self.run_dir, self._ending, self._server)
            )

        return RaySpawner(f"{settings.name}:{worker_id}", make)

    def router_spawner(self, ledger: Ledger) -> RaySpawner:
        settings = self.settings

        def make(name: str, _incarnation: int) -> Any:
            router = replace(
                settings.router,
                policy=ledger.policy or settings.router.policy,
                port=ledger.router_port or settings.router.port,
            )
            options = _options(name) | {"num_cpus": 0, "scheduling_strategy": self._own_node()}
            return (
                ray.remote(RouterActor)
                .options(**options)
                .remote(router, settings.insight, self.run_dir, self._ending)
            )

        return RaySpawner(f"{settings.name}:router", make)

    @property
    def _server(self) -> ServerSettings | None:
        settings = self.settings
        if settings.engine == OWN_ENGINE:
            return None
        return ServerSettings(
            settings.companion,
            settings.name,
            settings.engine_args,
            settings.runtime_dir,
            self.run_dir,
        )

    @property
    def _ending(self) -> Ending:
        return Ending(self.settings.drain_s, on_sigterm)

    def _own_node(self) -> NodeAffinitySchedulingStrategy:
        return NodeAffinitySchedulingStrategy(self.node_id, soft=False)


def _options(name: str) -> dict[str, object]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": 0,
        "max_task_retries": 0,
    }


async def _answer(reference: Awaitable[T]) -> T:
    try:
        return await reference
    except RayTaskError as error:
        raise ActorLost(f"{type(error.cause).__name__}: {error.cause}") from error
    except RayError as error:
        # The first line names the cause; the rest is Ray's table of ids.
        raise ActorLost(str(error).strip().partition("\n")[0]) from error
