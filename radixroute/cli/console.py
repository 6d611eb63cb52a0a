"""Console of the command line: tables, JSON, and one line for an error. Decides nothing.

Answers and tables go to stdout, progress and errors to stderr, so that a pipe gets only the answer.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")]

WIDEST = 1000  # columns of a table that goes into a pipe
PAGE = 80  # columns of what is laid out in pages, where there is no terminal to ask


def complain(message: str) -> None:
    """One line on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"[bold red]radixroute:[/] {escape(message)}"
    )


def tell(line: str) -> None:
    """Progress, on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[dim]{escape(line)}[/]")


def show(text: str) -> None:
    """A result line with markup, on stdout."""
    Console(soft_wrap=True, highlight=False).print(text)


def show_wrapped(text: str) -> None:
    """The same, in lines that fit the page."""
    Console(highlight=False, width=page_width()).print(text)


def show_whole(text: str) -> None:
    """The same on a terminal; piped, in one line however long: who searches it finds whole flags
    and paths."""
    console = Console(highlight=False)
    console.print(text, soft_wrap=not console.is_terminal)


def page_width() -> int:
    """Columns of the terminal; piped, those of a page."""
    console = Console()
    return console.width if console.is_terminal else PAGE


def show_table_within(table: Table, width: int) -> None:
    """A table on stdout that is laid out for so many columns."""
    Console(highlight=False, width=width).print(table)


def show_table(table: Table) -> None:
    """A table on stdout; piped, it is as wide as it needs to be."""
    console = Console(highlight=False)
    if not console.is_terminal:
        needed = Console(width=WIDEST).measure(table).maximum
        console = Console(highlight=False, width=needed)
    console.print(table)


def show_json(value: object) -> None:
    """Machine-readable, one document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table_of(
    title: str, columns: Sequence[str], *, left: Sequence[str] = (), text: Sequence[str] = ()
) -> Table:
    """A table whose columns hold numbers unless they are named: names in `left`, which stay on
    one line, and `text`, which goes on in the next line where it does not fit."""
    table = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    for name in columns:
        is_words = name in left or name in text
        justify: Literal["left", "right"] = "left" if is_words else "right"
        table.add_column(name, justify=justify, no_wrap=name in left, overflow="fold")
    return table


def cell(value: object) -> str:
    """Text from outside, shown as it stands: it may hold what looks like markup."""
    return escape(str(value))


def share(part: float, whole: float) -> str:
    """A percentage, or a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def json_values(message: Any) -> dict[str, Any]:
    """A wire message as JSON values: every field, numbers as numbers (also those of 64 bits)."""
    return {one.name: _json_value(message, one) for one in message.DESCRIPTOR.fields}


def _json_value(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [json_values(one) for one in value]
    return json_values(value) if message.HasField(field.name) else None
