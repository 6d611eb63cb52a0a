"""Tables with a row for each quantity and a column for each worker, in pages that fit the terminal.

Owns how many workers stand beside one another. Decides nothing about what is shown.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from radixroute.cli.console import page_width, show_table_within, table_of

_BESIDE = 3  # columns of a terminal that a cell takes beside its text: padding and a line


class WorkerColumn(NamedTuple):
    """One worker, or a sum over them. All texts are markup."""

    name: str
    cells: Sequence[str]  # one for each row
    style: str = ""


def show_by_worker(rows: Sequence[str], columns: Sequence[WorkerColumn]) -> None:
    """On stdout; workers that do not fit beside the others come in further tables."""
    width = page_width()
    for page in _pages(rows, columns, width):
        show_table_within(_table(rows, page), width)


def _pages(
    rows: Sequence[str], columns: Sequence[WorkerColumn], width: int
) -> Iterator[list[WorkerColumn]]:
    """As many as fit, and one at least."""
    page, left = list[WorkerColumn](), 0
    for column in columns:
        needed = _BESIDE + max(_len(text) for text in (column.name, *column.cells))
        if page and needed > left:
            yield page
            page = []
        if not page:
            left = width - 1 - _BESIDE - max(map(_len, rows))
        page.append(column)
        left -= needed
    if page:
        yield page


def _table(rows: Sequence[str], page: Sequence[WorkerColumn]) -> Table:
    table = table_of("", ("",), left=("",))
    for column in page:
        table.add_column(column.name, justify="right", overflow="fold", style=column.style)
    for number, row in enumerate(rows):
        table.add_row(row, *(column.cells[number] for column in page))
    return table


def _len(markup: str) -> int:
    return cell_len(Text.from_markup(markup).plain)
