"""Context of a command: the settings file that stands before it, and the settings it comes to.

Owns nothing but the record that the application puts there. Commands ask it for their settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from radixroute.config import Config, Given, flag, load
from radixroute.errors import BadInput


@dataclass(frozen=True, slots=True)
class Context:
    """What stands before the command."""

    config_path: Path | None

    def config(self, flags: Sequence[Given] = ()) -> Config:
        return load(path=self.config_path, flags=flags)


def context_of(ctx: typer.Context) -> Context:
    """The record the application put there."""
    found = ctx.find_object(Context)
    return Context(config_path=None) if found is None else found


def config_for(
    ctx: typer.Context, router: str | None, name: str | None, more: Sequence[Given] = ()
) -> Config:
    """The settings of a command that talks to a router: at an address, or of a named cluster."""
    if router is not None and name is not None:
        raise BadInput("give --router or --name; not both")
    flags = {"--router": ("client.router", router), "--name": ("cluster.name", name)}
    given = [flag(key, value, typed) for typed, (key, value) in flags.items() if value is not None]
    return context_of(ctx).config([*given, *more])
