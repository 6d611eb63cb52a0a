"""Options that commands about a cluster share, and their way into the settings."""

from typing import Annotated

import typer

from radixroute.cli.context import context_of
from radixroute.config import Config, Given, assignment

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting; may be repeated."),
]
ClusterNameOption = Annotated[
    str | None, typer.Option("--name", help="The cluster's name, for more than one.")
]


def config_of(ctx: typer.Context, given: list[Given], settings: list[str] | None) -> Config:
    """File, environment and flags; `--set` comes last."""
    return context_of(ctx).config([*given, *(assignment(text) for text in settings or ())])
