"""Joined cluster: `up --address` and `down --address`, in a Ray that somebody else runs.

The controller and its actors are detached: they stay when this process leaves. Nothing is written
on this machine; the controller is found by its name.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from radixroute.deploy.actors.ray_actors import NAMESPACE
from radixroute.deploy.cluster.cluster import attach, launch
from radixroute.deploy.errors import ConfigError, RayUnreachable
from radixroute.deploy.ray_env import ray, total_cpus
from radixroute.deploy.settings import (
    ClusterSettings,
    check_startable,
    with_full_paths,
    with_secret,
)
from radixroute.deploy.state.records import Progress
from radixroute.deploy.state.state_file import ClusterState

# Ray's own attempt to reach a dead address takes a minute and ends the process: ask first.
PROBE_TIMEOUT_S = 3.0
AUTO = "auto"


def join(settings: ClusterSettings, progress: Progress) -> ClusterState:
    """Starts the cluster there and returns once it serves; on failure takes back what it began."""
    check_startable(settings)
    settings = with_full_paths(settings)
    with _connected(settings):
        progress(f"joined Ray with {total_cpus():g} CPU")
        cluster = launch(with_secret(settings), progress)
        try:
            status = cluster.await_ready(progress, {})
        except BaseException:
            cluster.stop()
            raise
    return ClusterState(
        settings.name, status.router.address, None, ray_address=settings.address or AUTO
    )


def leave(settings: ClusterSettings, progress: Progress) -> None:
    """Ends the cluster of that name there; the Ray stays."""
    with _connected(settings):
        cluster = attach(settings)
        progress(f"stopping cluster {settings.name!r}")
        cluster.stop()
        progress("stopped")


@contextmanager
def _connected(settings: ClusterSettings) -> Iterator[None]:
    address = settings.address or AUTO
    if address != AUTO:
        _probe(address)
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RayUnreachable(
            f"no Ray cluster at {address!r} ({error}): start one with `ray start --head`, "
            "or leave --address out to get one of your own"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise ConfigError(f"Ray address {address!r}: use host:port (Ray's own port) or 'auto'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise RayUnreachable(
            f"no Ray cluster answers at {address} ({error}): is `ray start --head` running there?"
        ) from error
