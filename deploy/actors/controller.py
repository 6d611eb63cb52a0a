"""Controller: the supervisor's actor. Detached, named, restarted by Ray at any death.

A restarted controller reads the ledger, finds the actors that still live and goes on from there.
Holds no resources (`num_cpus=0`), serves no traffic, and is the only one that starts or ends
workers and routers.
"""

from radixroute.deploy.actors.actor_logging import log_to
from radixroute.deploy.actors.loop_thread import LoopThread
from radixroute.deploy.actors.ray_actors import RaySpawners
from radixroute.deploy.actors.supervisor import Supervisor
from radixroute.deploy.ray_env import ray
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.ledger import Ledger
from radixroute.deploy.state.ray_store import RayStore
from radixroute.deploy.state.records import ClusterStatus, RouterLook


class Controller:
    """Owns the supervisor and the loop it lives on; Ray calls the methods."""

    def __init__(self, settings: ClusterSettings, run_dir: str = "") -> None:
        log_to(run_dir, "controller")
        self._store = RayStore(settings.name)
        spawners = RaySpawners(settings, ray.get_runtime_context().get_node_id(), run_dir)
        self._supervisor = Supervisor(settings, spawners, Ledger.open(self._store))
        self._loop = LoopThread("controller")
        self._loop.start(self._begin())

    async def status(self) -> ClusterStatus:
        return await self._loop.call(self._status())

    async def look(self) -> RouterLook | None:
        """The router as it sees itself; None: it has no life now."""
        return await self._loop.call(self._supervisor.look())

    async def restart(self, policy: str | None) -> None:
        await self._loop.call(self._supervisor.restart(policy))

    async def stop(self) -> None:
        """Ends every actor of the cluster; the caller then kills this one."""
        await self._loop.call(self._supervisor.stop())
        self._store.clear()

    async def _begin(self) -> None:
        self._supervisor.start()

    async def _status(self) -> ClusterStatus:
        self._supervisor.check()
        return self._supervisor.status
