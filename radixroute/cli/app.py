"""The command line: one typer application made of the commands beside this file.

Owns the options that stand before a command, and the line where errors become one clear message and
an exit code: 2 for what the user must change, 1 for what failed. Heavy imports happen inside the
commands, so that `--help` and `--version` answer at once.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from radixroute import __version__
from radixroute.cli import completion, policies, submit
from radixroute.cli.cluster import certs, serve
from radixroute.cli.cluster import command as cluster
from radixroute.cli.compile_progress import compilation_shown
from radixroute.cli.console import complain
from radixroute.cli.context import Context
from radixroute.cli.doctor import command as doctor
from radixroute.cli.events import command as events
from radixroute.cli.kv import command as kv
from radixroute.cli.replay import command as replay
from radixroute.cli.router import insight, inspect, switch
from radixroute.errors import FrontDoorError


class FrontDoorGroup(TyperGroup):
    """The commands, with our errors reported instead of raised."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with compilation_shown():
                return super().invoke(ctx)
        except FrontDoorError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=FrontDoorGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames show local values: prompts and secrets
    rich_markup_mode="rich",
    help="Routes LLM requests to the worker whose KV cache already holds their prefix.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"radixroute {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file. Default: $RADIXROUTE_CONFIG, then ./radixroute.toml."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    ctx.obj = Context(config_path=config)


for commands in (
    cluster,
    serve,
    certs,
    submit,
    inspect,
    insight,
    switch,
    doctor,
    policies,
    events,
    replay,
    kv,
    completion,
):
    commands.register(app)
