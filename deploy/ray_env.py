"""The only importer of Ray: it sets what Ray reads from the environment, then imports it.

Ray decides about token authentication while it is imported. With `token`, its ports answer only to
processes that hold the token file of the user who started it; a process without the variable would
fail to talk to its own cluster. Every process of a cluster therefore comes through here.
"""

import os
from collections.abc import Mapping
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
    from ray.exceptions import GetTimeoutError, RayError
    from ray.experimental import internal_kv
    from ray.util import get_node_ip_address
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise RayMissing(
        "Ray is not installed; install it with: pip install 'radixroute[ray]'"
    ) from error

__all__ = [
    "RAY_ENVIRONMENT",
    "GetTimeoutError",
    "NodeAffinitySchedulingStrategy",
    "RayError",
    "get_node_ip_address",
    "internal_kv",
    "ray",
]
