"""The command `policies`, and the names of policies in the help of commands that take one."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from radixroute.cli.console import JsonOption, page_width, show_json, show_table_within, table_of
from radixroute.errors import BadInput


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(policies)


class NamesPolicies(TyperCommand):
    """A command whose help lists the policies that there are: asked for only when it is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from radixroute.router.policy.registry import POLICIES

        for option in self.params:
            if option.name == "policy" and isinstance(getattr(option, "help", None), str):
                names = ", ".join(POLICIES)
                option.help = f"{option.help} There are {names}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def policies(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One policy: its whole text.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List the policies that requests, or replays alone, can be routed by: formulas and sources.

    Example: [bold]radixroute policies dynamo_agentic[/]
    """
    from radixroute.router.policy.registry import DESCRIPTIONS, LAB_POLICIES, POLICIES

    if name and name not in LAB_POLICIES:
        raise BadInput(f"unknown policy: use one of {', '.join(sorted(LAB_POLICIES))}")
    chosen = [name] if name else list(LAB_POLICIES)
    if as_json:
        show_json({each: DESCRIPTIONS[each] for each in chosen})
    elif name:
        typer.echo(DESCRIPTIONS[name])
    else:
        table = table_of(
            "policies", ("policy", "what it is"), left=("policy",), text=("what it is",)
        )
        for each in chosen:
            what = DESCRIPTIONS[each].partition("\n\n")[0].replace("\n", " ")
            table.add_row(each, what if each in POLICIES else f"(replays only) {what}")
        show_table_within(table, page_width())
