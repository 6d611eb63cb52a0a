"""Address of the router that a command talks to, and the option that names one.

Owns the order in which a router is looked for: `--router` or `--name`, `client.router`, the cluster
that runs on this machine, and last the configured host and port. A cluster that was named and does
not run is an error: its questions must not go to another one.
"""

import re
from typing import Annotated, TypeAlias

import typer

from radixroute.cli.context import config_for
from radixroute.config import Config, router_address
from radixroute.deploy.errors import DeployError
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.state_file import read_state, runtime_dir
from radixroute.errors import BadInput, RouterUnreachable

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/]+):[0-9]{1,5}")

RouterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--router",
        metavar="HOST:PORT",
        help="The router's address. Default: the cluster running here, else the configured one.",
    ),
]

NAME_FLAG = "--name"
NameOption: TypeAlias = Annotated[
    str | None,
    typer.Option(NAME_FLAG, help="The cluster of that name on this machine, instead of --router."),
]


def find_router(config: Config) -> str:
    """host:port to talk to. Raises `BadInput` for what is no address, `RouterUnreachable` for a
    cluster that was named and is not up."""
    is_named = config.sources.get("cluster.name") == NAME_FLAG
    given = config.client.router
    if given is not None and not is_named:
        require_address("router", given)
        return router_address(config)
    running = _running_router(config.cluster)
    if running is None and is_named:
        name = config.cluster.name
        raise RouterUnreachable(
            f"no cluster {name!r} is up on this machine: `radixroute up --name {name}` starts one;"
            " a router elsewhere is named by --router HOST:PORT"
        )
    return running or router_address(config)


def live_router(ctx: typer.Context, given: str) -> str:
    """The same of what `--live` was given: host:port, or a cluster's name."""
    if ":" in given:
        require_address("router", given)
        return given
    return find_router(config_for(ctx, None, given))


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
