"""Report of a replay on the command line: a bar while it runs, tables, and the folder it goes to.

What files hold is the business of `replay.report`, how they are called that of `report_folder`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from radixroute.cli.console import cell, show, show_table, tell
from radixroute.cli.replay.report_folder import (
    FIRST_REQUESTS,
    RESULTS,
    remove_stale,
    requests_file,
)
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.report.report import Report


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr, in a terminal; else nothing."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("reading")

        def tell_progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(what))

        yield tell_progress


def show_report(report: "Report") -> None:
    from radixroute.replay.report.found import finding_lines
    from radixroute.replay.report.table import conclusion, idle_table, table

    show_table(table(report))
    idle = idle_table(report)
    if idle is not None:
        show_table(idle)
    bounds = ", ".join(f"{name} {value:.4f}" for name, value in report.bounds.items())
    show(f"Reuse that could be reached: {escape(bounds)}.")
    show(escape(conclusion(report)))
    for line in finding_lines(report):
        show(escape(line))


def write_report(report: "Report", folder: Path) -> None:
    """All files of a report; those of an earlier one there that it does not have are removed."""
    from radixroute.replay.report.page.html import index_html
    from radixroute.replay.report.report import requests_jsonl, results_json

    files = {"index.html": index_html(report), RESULTS: results_json(report)}
    for run in report.runs:
        result = run.result
        one = requests_file(result.policy, result.source, result.workers, result.speed)
        text = requests_jsonl(run)
        files.setdefault(FIRST_REQUESTS, text)  # the first policy's, for scripts
        if len(report.runs) > 1:
            files[one] = text
    try:
        folder.mkdir(parents=True, exist_ok=True)
        removed = remove_stale(folder, files)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}") from error
    show(f"{len(files)} files: [bold]{cell(folder / 'index.html')}[/]")
    if removed:
        tell(f"{len(removed)} files of an earlier report there were removed: {', '.join(removed)}")
