"""Cluster: as its driver sees it; create the controller, wait until all serves, take it down.

Used by `LocalCluster` (a Ray of our own) and by `up`/`down` on a Ray that runs already. The caller
has connected to Ray. Calls block; progress is reported as readable lines.
"""

import time
from collections.abc import Mapping
from typing import Any, cast

from radixroute.deploy.actors.controller import Controller
from radixroute.deploy.actors.ray_actors import NAMESPACE
from radixroute.deploy.cluster.placement import NodeResources, check_resources
from radixroute.deploy.cluster.readiness import await_joined
from radixroute.deploy.errors import AlreadyRunning, NotRunning, PlacementError, StartError
from radixroute.deploy.ray_env import (
    GetTimeoutError,
    NodeAffinitySchedulingStrategy,
    RayError,
    free_by_node,
    ray,
)
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.records import (
    ActorState,
    ActorStatus,
    ClusterStatus,
    Progress,
    RouterLook,
)

POLL_S = 0.1
# Ray's view of free resources lags behind an actor's end by its own report period (0.1 s) and more
# on a loaded machine.
RESOURCES_PATIENCE_S = 3.0
CALL_TIMEOUT_S = 30.0


class Cluster:
    """One cluster's controller, seen from the driver."""

    def __init__(self, settings: ClusterSettings, controller: Any) -> None:
        self._settings = settings
        self._controller = controller

    @property
    def status(self) -> ClusterStatus:
        return cast(ClusterStatus, self._call(self._controller.status.remote(), CALL_TIMEOUT_S))

    def await_ready(self, progress: Progress, deaths_before: Mapping[str, int]) -> ClusterStatus:
        """Returns once every actor serves and the router has every worker.

        Raises `StartError` with the actor's own reason as soon as one fails to start.
        """
        began_s = time.monotonic()
        give_up_s = began_s + self._settings.start_timeout_s
        reported: dict[str, ActorStatus] = {}
        while not (status := self.status).is_live:
            _report(status, reported, progress, time.monotonic() - began_s)
            _raise_for_deaths(status, deaths_before)
            if time.monotonic() > give_up_s:
                raise StartError(self._overdue(status))
            time.sleep(POLL_S)
        _report(status, reported, progress, time.monotonic() - began_s)
        router = await_joined(
            self._look,
            self._settings.workers,
            lambda: time.monotonic() > give_up_s,
            lambda: time.sleep(POLL_S),
        )
        if router.api_url:
            progress(f"OpenAI API at {router.api_url}")
        if router.metrics_url:
            progress(f"metrics at {router.metrics_url}")
        return status

    def restart(self, policy: str | None, progress: Progress) -> ClusterStatus:
        """Fresh workers and a fresh router on the same port; returns once they serve."""
        deaths = {actor.name: actor.deaths for actor in self.status.actors}
        progress("restarting workers and router")
        self._call(self._controller.restart.remote(policy), self._stop_limit_s)
        return self.await_ready(progress, deaths)

    def stop(self) -> None:
        """Ends every actor, the controller last."""
        try:
            self._call(self._controller.stop.remote(), self._stop_limit_s)
        finally:
            ray.kill(self._controller, no_restart=True)

    def _look(self) -> RouterLook | None:
        return cast(RouterLook | None, self._call(self._controller.look.remote(), CALL_TIMEOUT_S))

    @property
    def _stop_limit_s(self) -> float:
        # Router, then workers, each within its own limit; then as much again for a busy machine.
        return 4 * self._settings.stop_timeout_s

    def _call(self, reference: Any, timeout_s: float) -> Any:
        try:
            return ray.get(reference, timeout=timeout_s)
        except GetTimeoutError as error:
            raise StartError(
                f"the controller did not answer within {timeout_s:.0f} s: {_free()}"
            ) from error
        except RayError as error:
            raise StartError(f"the controller failed: {error}") from error

    def _overdue(self, status: ClusterStatus) -> str:
        late = [actor.name for actor in status.actors if actor.state is not ActorState.LIVE]
        return (
            f"{', '.join(late)} did not start within {self._settings.start_timeout_s:.0f} s; "
            f"{_free()}"
        )


def launch(settings: ClusterSettings, progress: Progress, run_dir: str = "") -> Cluster:
    """Creates the controller, which starts everything else; `await_ready` follows. `run_dir`: where
    the actors on this machine log to."""
    if _find(settings.name) is not None:
        raise AlreadyRunning(
            f"cluster {settings.name!r} runs in this Ray already: `radixroute down --address "
            f"{settings.address or 'auto'} --name {settings.name}` ends it; another --name, "
            "--port 0 and --http-port 0 start another beside it"
        )
    own_node = ray.get_runtime_context().get_node_id()
    if not settings.wait_for_nodes:
        _await_resources(settings, own_node)
    progress(f"starting {settings.workers} workers and a router ({settings.router.policy})")
    controller = (
        ray.remote(Controller)
        .options(
            name=_name(settings.name),
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(own_node, soft=False),
        )
        .remote(settings, run_dir)
    )
    return Cluster(settings, controller)


def attach(settings: ClusterSettings) -> Cluster:
    """The cluster of that name in the Ray we are connected to."""
    controller = _find(settings.name)
    if controller is None:
        raise NotRunning(f"no cluster {settings.name!r} runs in this Ray")
    return Cluster(settings, controller)


def _find(cluster: str) -> Any | None:
    try:
        return ray.get_actor(_name(cluster), namespace=NAMESPACE)
    except ValueError:  # what Ray raises for a name nobody has
        return None


def _name(cluster: str) -> str:
    return f"{cluster}:controller"


def _await_resources(settings: ClusterSettings, router_node: str) -> None:
    give_up_s = time.monotonic() + RESOURCES_PATIENCE_S
    while True:
        try:
            check_resources(_nodes(), settings, router_node)
            return
        except PlacementError:
            if time.monotonic() > give_up_s:
                raise
        time.sleep(POLL_S)


def _nodes() -> list[NodeResources]:
    return [
        NodeResources(node_id, free.get("CPU", 0.0), free.get("GPU", 0.0))
        for node_id, free in free_by_node().items()
    ]


def _free() -> str:
    nodes = _nodes()
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"Ray has {cpus:g} CPU and {gpus:g} GPU free"


def _report(
    status: ClusterStatus, reported: dict[str, ActorStatus], progress: Progress, elapsed_s: float
) -> None:
    for actor in status.actors:
        last = reported.get(actor.name)
        if last is None or last.state is not actor.state:
            address = f" at {actor.address}" if actor.address else ""
            progress(f"{actor.name}: {actor.state.value}{address} ({elapsed_s:.1f} s)")
        reported[actor.name] = actor


def _raise_for_deaths(status: ClusterStatus, deaths_before: Mapping[str, int]) -> None:
    for actor in status.actors:
        if actor.deaths > deaths_before.get(actor.name, 0):
            raise StartError(f"{actor.name} did not start: {actor.reason}")
