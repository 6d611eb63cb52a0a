"""Address of the router that a command talks to, and the option that names one.

Owns the order in which a router is looked for: `--router`, `client.router`, the cluster that runs
on this machine, and last the configured host and port.
"""

import re
from typing import Annotated, TypeAlias

import typer

from radixroute.config import Config, router_address
from radixroute.deploy.errors import DeployError
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.state_file import read_state, runtime_dir
from radixroute.errors import BadInput

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/]+):[0-9]{1,5}")

RouterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--router",
        metavar="HOST:PORT",
        help="The router's address. Default: the cluster running here, else the configured one.",
    ),
]


def find_router(config: Config) -> str:
    """host:port to talk to. Raises `BadInput` for what is no address."""
    given = config.client.router
    if given is not None:
        require_address("router", given)
    if given is None:
        running = _running_router(config.cluster)
        if running is not None:
            return running
    return router_address(config)


def require_address(whose: str, given: str) -> None:
    """Raises `BadInput` for what is no host:port."""
    if not _ADDRESS.fullmatch(given):
        raise BadInput(f"the {whose}'s address {given!r} is not HOST:PORT, e.g. 127.0.0.1:50051")


def _running_router(settings: ClusterSettings) -> str | None:
    try:
        state = read_state(runtime_dir(settings.runtime_dir), settings.name)
    except (DeployError, OSError):
        return None  # a folder we may not use holds no cluster of ours
    return None if state is None else state.router_address
