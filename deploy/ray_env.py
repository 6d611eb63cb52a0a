"""Ray environment: the only importer of Ray; sets what Ray reads from it, then imports Ray.

Ray decides about token authentication while it is imported. With `token`, its ports answer only to
processes that hold the token file of the user who started it; a process without the variable would
fail to talk to its own cluster. Every process of a cluster therefore comes through here.
"""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from radixroute.deploy.errors import RayMissing

RAY_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray 2.60 announces the next release's meaning of CUDA_VISIBLE_DEVICES for actors without
        # a GPU; a worker without a GPU must not see one.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    }
)
for _name, _value in RAY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

try:
    import ray
    from ray._private import ray_constants, worker
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError
    from ray.experimental import internal_kv
    from ray.util import get_node_ip_address
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise RayMissing(
        "Ray is not installed; install it with: pip install 'radixroute[ray]'"
    ) from error

# Ray's name for "this Ray may have other nodes". When it may not, Ray takes 127.0.0.1 for the
# node's address and binds every port to it; otherwise its ports listen on all interfaces, and
# `_node_ip_address="127.0.0.1"` is replaced by the machine's outer address (2.60, tried).
_MAY_HAVE_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def enter_loopback() -> None:
    """The next Ray started by this process is reachable from this machine only."""
    os.environ[_MAY_HAVE_NODES] = "0"  # for the processes it starts
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one, which read it while importing


def leave_loopback() -> None:
    """Undoes `enter_loopback` once that Ray has ended."""
    os.environ.pop(_MAY_HAVE_NODES, None)
    ray_constants.ENABLE_RAY_CLUSTER = True


def on_sigterm(call: Callable[[], None]) -> None:
    """What SIGTERM does in this actor's process from now on. Call it in the actor.

    Ray's own handler ends the process at once, and only the main thread could set another: that one
    is Ray's and never comes back to us. So the function which Ray's handler calls is replaced.
    """

    def instead(_message: str, *, exit_code: int) -> None:
        call()

    worker.raise_sys_exit_with_custom_error_message = instead  # type: ignore[attr-defined]


def total_cpus() -> float:
    """CPUs of the whole Ray we are connected to."""
    return float(ray.cluster_resources().get("CPU", 0.0))  # type: ignore[no-untyped-call]


def free_by_node() -> dict[str, dict[str, float]]:
    """What each live node has left, by node id and resource name."""
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return {str(node): dict(resources) for node, resources in free.items()}


__all__ = [
    "RAY_ENVIRONMENT",
    "GetTimeoutError",
    "NodeAffinitySchedulingStrategy",
    "RayError",
    "RayTaskError",
    "enter_loopback",
    "free_by_node",
    "get_node_ip_address",
    "internal_kv",
    "leave_loopback",
    "on_sigterm",
    "ray",
    "total_cpus",
]
