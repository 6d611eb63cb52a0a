"""The commands `replay ...`: workloads and traces, simulated or on a running cluster.

Owns the group, and its rule for a default: words that name no command of the group go to the one
called `run`, where there is one, so that `radixroute replay FILE` needs no word more.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from radixroute.cli.capture import capture
from radixroute.cli.console import cell, show, show_table, tell
from radixroute.cli.replay_options import check_live_options, fitted, is_given, timing_of
from radixroute.cli.trace_writing import write_trace
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.report.report import Report
    from radixroute.replay.traces.files import Reading
    from radixroute.replay.traces.trace import Trace

_Number = TypeVar("_Number", int, float)
DEFAULT_COMMAND = "run"
_GROUP_OPTIONS = ("--help",)


class ReplayGroup(TyperGroup):
    """A group with a default command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_own = not args or args[0] in self.commands or args[0] in _GROUP_OPTIONS
        if DEFAULT_COMMAND in self.commands and not is_own:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


replay_app = typer.Typer(
    cls=ReplayGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Replay traces, simulated or on a running cluster, and make workloads for that.",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(replay_app, name="replay")


replay_app.command()(capture)


@replay_app.callback()
def _group() -> None:
    """Keeps a group of one command a group."""


@replay_app.command("run")
def run(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file; may be .gz.")],
    *,
    workers: Annotated[str, typer.Option(help="Fleet sizes, with commas.")] = "8",
    policy: Annotated[str, typer.Option(help="Policies, with commas; all: each of them.")] = "all",
    speed: Annotated[str, typer.Option(help="Arrivals so many times faster, with commas.")] = "1",
    seed: Annotated[int, typer.Option(help="Of ties and random choices.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the report; made if missing.")
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help="Of the file. Default: told by its first line.")
    ] = None,
    trace_block_size: Annotated[
        int | None, typer.Option(help="Tokens of one block id, where the format leaves that open.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Count bad lines instead of ending.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many requests.")] = None,
    spread: Annotated[
        bool, typer.Option(help="Spread arrivals that share a timestamp up to the next one.")
    ] = False,
    kv_blocks: Annotated[int, typer.Option(help="Blocks of each worker.")] = 16384,
    block_size: Annotated[int, typer.Option(help="Tokens of an engine block.")] = 64,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens of a step.")] = 8192,
    max_num_seqs: Annotated[int, typer.Option(help="Requests that run on a worker.")] = 256,
    timing: Annotated[str, typer.Option(help="polynomial, linear or calibrated.")] = "polynomial",
    calibration: Annotated[
        Path, typer.Option(help="What calibrated reads, and --calibrate writes.")
    ] = Path("calibration.json"),
    slow_worker: Annotated[
        float, typer.Option(help="One worker takes so many times longer.")
    ] = 1.0,
    eviction: Annotated[
        str, typer.Option(help="What leaves a full cache: lru, slru, lfu or cost.")
    ] = "lru",
    event_delay_ms: Annotated[float, typer.Option(help="Until cache events are heard.")] = 0.0,
    dispatch_ms: Annotated[float, typer.Option(help="Until a request is at its worker.")] = 0.0,
    scale_lengths: Annotated[
        float | None, typer.Option(help="All lengths times this, to whole engine blocks.")
    ] = None,
    max_output: Annotated[int | None, typer.Option(help="No output longer than this.")] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A router: replay on its cluster, and simulated beside it."
        ),
    ] = None,
    skip_long: Annotated[
        bool, typer.Option(help="With --live: leave out what its model is too small for.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option(help="With --live: measure its engine first, and simulate that.")
    ] = False,
) -> None:
    """Replay a trace against simulated fleets: every policy, the bounds, and what was missed.

    With --live also against a running cluster, whose shape and policy the simulation then takes.

    Example: [bold]radixroute replay trace.jsonl.gz --workers 8 --speed 1,4 -o report[/]
    """
    from radixroute.replay.lab import LabSettings, replay_all
    from radixroute.replay.simulate import Conditions
    from radixroute.router.errors import UnknownPolicy

    check_live_options(ctx, live)
    with _reported():
        reading = _read(file, format_name, trace_block_size, skip_bad=skip_bad)
        trace = _shaped(reading.trace, spread=spread, seed=seed, limit=limit)
        try:
            settings = LabSettings(
                policies=tuple(_words(policy)),
                workers=tuple(_numbers("--workers", workers, int)),
                speeds=tuple(_numbers("--speed", speed, float)),
                seed=seed,
                kv_blocks=kv_blocks,
                block_size=block_size,
                max_num_batched_tokens=max_num_batched_tokens,
                max_num_seqs=max_num_seqs,
                timing=timing_of(timing, calibration, is_coming=calibrate),
                slowness=(slow_worker,) if slow_worker != 1.0 else (),
                eviction_policy=eviction,
                conditions=Conditions(event_delay_ms, dispatch_ms),
            )
        except UnknownPolicy as error:
            raise BadInput(f"--policy: {error}") from error
        command = shlex.join(["radixroute", *sys.argv[1:]])
        if live is None:
            trace = fitted(trace, scale_lengths, max_output, block_size)
            with _progress() as told:
                report = replay_all(trace, settings, told, command)
        else:
            from radixroute.live.cluster import Fitting
            from radixroute.live.lab import LiveOptions, replay_beside

            options = LiveOptions(
                address=live,
                fitting=Fitting(scale_lengths, max_output, skip_long),
                own_policy=not is_given(ctx, "policy"),
                calibrates=calibrate,
            )
            with _progress() as told:
                outcome = replay_beside(trace, settings, options, told, command)
            report = outcome.report
            for note in outcome.notes:
                tell(note)
            if outcome.calibration is not None:
                _write_text(calibration, outcome.calibration)
    _show(report)
    if output is not None:
        _write_report(report, output)
    if reading.bad_lines:
        tell(f"{reading.bad_lines:,} bad lines were skipped; the first: {reading.first_bad}")


@replay_app.command("diff")
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="requests.jsonl of a report.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Of another run of that trace.")],
    *,
    top: Annotated[int, typer.Option(help="How many requests to list.")] = 10,
) -> None:
    """The requests that two runs placed differently, and what that cost.

    Example: [bold]radixroute replay diff a/requests.jsonl b/requests.jsonl[/]
    """
    from radixroute.replay.report.diff import diff as compare
    from radixroute.replay.report.diff import diff_text, read_rows

    with _reported():
        a, b = (read_rows(_lines(path)) for path in (first, second))
        show(escape(diff_text(compare(a, b, top))))


@replay_app.command()
def synth(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="chats, system_prompts, few_shot, agents, rag, bursts or hot_prefix.",
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; .gz compresses it.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 0,
    requests: Annotated[
        int | None, typer.Option(help="How many requests. Default: 2,000.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of the kind; may be repeated."
        ),
    ] = None,
) -> None:
    """Write a synthetic workload as a trace file.

    Example: [bold]radixroute replay synth chats -o chats.jsonl.gz --seed 1 --set think_s=5[/]
    """
    from radixroute.replay.synth.workloads import shape_of, synthesize

    texts = dict(_assignment(text) for text in settings or ())
    with _reported():
        shape = shape_of(kind, texts)
        if requests is not None:
            shape = dataclasses.replace(shape, requests=requests)
        trace = synthesize(kind, seed, shape)
    write_trace(trace, output)
    show(
        f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens, digest {trace.digest}:"
        f" [bold]{cell(output)}[/]"
    )


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"--set {text}: write NAME=VALUE")
    return name.strip(), value.strip()


def _read(
    path: Path, format_name: str | None, block_size: int | None, *, skip_bad: bool
) -> "Reading":
    from radixroute.replay.traces.files import read_trace

    try:
        return read_trace(path, format_name, block_size=block_size, skip_bad=skip_bad)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _shaped(trace: "Trace", *, spread: bool, seed: int, limit: int | None) -> "Trace":
    from radixroute.replay.traces.reshape import cut
    from radixroute.replay.traces.reshape import spread as spread_out

    trace = trace if limit is None else cut(trace, limit)
    return spread_out(trace, seed) if spread else trace


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    show(f"calibration: [bold]{cell(path)}[/]")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str, kind: Callable[[str], _Number]) -> list[_Number]:
    try:
        return [kind(word) for word in _words(text)]
    except ValueError:
        raise BadInput(f"{option} {text}: write numbers with commas between them") from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
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

        def told(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(what))

        yield told


def _show(report: "Report") -> None:
    from radixroute.replay.report.table import conclusion, idle_table, table

    show_table(table(report))
    idle = idle_table(report)
    if idle is not None:
        show_table(idle)
    bounds = ", ".join(f"{name} {value:.4f}" for name, value in report.bounds.items())
    show(f"Reuse that could be reached: {escape(bounds)}.")
    show(escape(conclusion(report)))


def _write_report(report: "Report", folder: Path) -> None:
    from radixroute.replay.report.html import index_html
    from radixroute.replay.report.report import requests_jsonl, results_json

    files = {"index.html": index_html(report), "results.json": results_json(report)}
    for run in report.runs:
        result = run.result
        source = "" if result.source == "simulated" else f"-{result.source}"
        one = f"requests-{result.policy}{source}-w{result.workers}-x{result.speed:g}.jsonl"
        text = requests_jsonl(run)
        files.setdefault("requests.jsonl", text)  # the first policy's, for scripts
        if len(report.runs) > 1:
            files[one] = text
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}") from error
    show(f"{len(files)} files: [bold]{cell(folder / 'index.html')}[/]")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text: name a requests.jsonl of a report") from None


@contextmanager
def _reported() -> Iterator[None]:
    """What `replay` says, with our exit codes."""
    from radixroute.replay.errors import ReplayError

    try:
        yield
    except ReplayError as error:
        raise BadInput(str(error)) from error
