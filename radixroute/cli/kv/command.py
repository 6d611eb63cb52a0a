"""The group `kv`: commands about KV caches, on this machine alone."""

import typer

from radixroute.cli.kv.lab import lab
from radixroute.cli.kv.plan import plan

kv_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="What a KV cache costs and what it is worth.\n\n"
    "Example: [bold]radixroute kv plan MODEL --memory 24GiB[/]",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    kv_app.command()(plan)
    kv_app.command()(lab)
    app.add_typer(kv_app, name="kv")


@kv_app.callback()
def _group() -> None:
    """Keeps a group of one command a group."""
