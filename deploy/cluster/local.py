"""Local cluster: one on a Ray of its own, which begins and ends with it; the demo and `up` use it.

`LocalCluster` owns that Ray: its temporary folder, its ports (loopback only) and its processes.
Start it from a thread that lives as long as it does, best the main one: Ray's processes are tied to
the life of the thread that started them. One at a time per process: Ray's client is global.
"""

import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from radixroute.deploy.actors.ray_actors import NAMESPACE
from radixroute.deploy.cluster.cluster import Cluster, launch
from radixroute.deploy.errors import AlreadyRunning, DeployError, NotRunning, RayUnreachable
from radixroute.deploy.process_tree import ProcessId, await_gone, children_named, descendants
from radixroute.deploy.ray_env import enter_loopback, leave_loopback, ray, total_cpus
from radixroute.deploy.settings import ClusterSettings, settle, with_secret
from radixroute.deploy.state.records import ClusterStatus, Progress
from radixroute.deploy.state.run_folder import keep_ray_logs
from radixroute.events.warm import warm
from radixroute.radix.jit_progress import progress as compilation
from radixroute.router.policy.warm import warm as warm_policies

log = logging.getLogger(__name__)

# Nothing of ours goes through Ray's object store; Ray refuses less than 75 MB.
OBJECT_STORE_BYTES = 80_000_000
KILL_WAIT_S = 5.0
RAY_PROCESSES = frozenset({"gcs_server", "raylet"})  # without one of these a Ray is over
# Ray's socket paths end under this folder and may be 107 bytes long in all: keep it short.
TEMP_PREFIX, TEMP_PARENT = "rr-", "/tmp"  # noqa: S108 - mkdtemp makes a fresh folder of mode 0700


class LocalCluster:
    """Starts, restarts and stops one cluster and the Ray under it."""

    def __init__(self, settings: ClusterSettings, run_dir: Path | None = None) -> None:
        """`run_dir`: where logs go and stay; None: they end with this cluster's Ray."""
        self._settings = with_secret(settle(settings))
        self._run_dir = run_dir
        self._temp_dir: str | None = None
        self._cluster: Cluster | None = None
        self._status: ClusterStatus | None = None
        self._ray: frozenset[ProcessId] = frozenset()

    @property
    def router_address(self) -> str:
        """host:port of the router; the same after a restart."""
        if self._status is None:
            raise NotRunning("the cluster was not started")
        return self._status.router.address

    @property
    def temp_dir(self) -> str:
        """Ray's folder; empty while nothing runs."""
        return self._temp_dir or ""

    @property
    def is_alive(self) -> bool:
        """False once the Ray under it has ended."""
        return bool(self._ray) and all(process.is_alive for process in self._ray)

    @property
    def status(self) -> ClusterStatus:
        return self._running().status

    def start(self, progress: Progress | None = None) -> None:
        """Returns once the router serves with every worker; on failure nothing is left running."""
        report = progress or _ignore
        if self._cluster is not None or ray.is_initialized():
            raise AlreadyRunning("this process is connected to a Ray already")
        report("loading the router's kernels (compiled once on a machine)")
        with compilation.told_to(lambda n, _seconds: report(f"{n} kernels compiled")):
            warm()
            warm_policies()
        try:
            self._start_ray()
            report(f"Ray started with {total_cpus():g} CPU")
            self._cluster = launch(self._settings, report, str(self._run_dir or ""))
            self._status = self._cluster.await_ready(report, {})
        except BaseException:
            self.stop()
            raise

    def restart(self, *, policy: str | None = None, progress: Progress | None = None) -> None:
        """Fresh workers (new epochs, empty caches) and a fresh router on the same port."""
        self._status = self._running().restart(policy, progress or _ignore)

    def stop(self) -> None:
        """Ends everything; harmless when nothing runs."""
        cluster, self._cluster, self._status = self._cluster, None, None
        if self._ray and not self.is_alive:
            self._abandon_ray()
            return
        try:
            if cluster is not None:
                cluster.stop()
        except DeployError:
            log.warning("the controller did not stop in order; ending its Ray", exc_info=True)
        finally:
            self._stop_ray()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> Cluster:
        if self._cluster is None:
            raise NotRunning("the cluster was not started")
        return self._cluster

    def _start_ray(self) -> None:
        self._temp_dir = tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=TEMP_PARENT)
        enter_loopback()
        try:
            ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=self._settings.num_cpus,
                num_gpus=self._settings.num_gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=self._temp_dir,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise RayUnreachable(f"Ray did not start: {error}") from error
        self._ray = frozenset(children_named(os.getpid(), RAY_PROCESSES))

    def _stop_ray(self) -> None:
        if self._temp_dir is None:
            return
        ray.shutdown()
        self._leave_ray()

    def _abandon_ray(self) -> None:
        """Half of it is gone. It is asked for nothing any more: its client waits for a minute and
        then ends this process."""
        log.error("the Ray under this cluster is gone: ending what is left of it")
        left = {process for process in self._ray if process.is_alive}
        for parent in tuple(left):
            left |= descendants(parent.pid)
        for process in left:
            process.send(signal.SIGKILL)
        await_gone(left, KILL_WAIT_S)
        self._leave_ray()

    def _leave_ray(self) -> None:
        leave_loopback()
        if self._temp_dir is None:
            return
        if self._run_dir is not None:
            keep_ray_logs(self._temp_dir, self._run_dir)
        shutil.rmtree(self._temp_dir, ignore_errors=True)
        self._temp_dir, self._ray = None, frozenset()


def _ignore(_line: str) -> None:
    """Progress that nobody watches."""
