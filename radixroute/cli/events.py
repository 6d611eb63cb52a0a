"""The commands `events record`, `events show` and `events replay`: event streams kept for later.

Own the file: how it is opened, found and named in errors. What a recording says is `replay`'s, how
it looks `event_lines`'. A recording of vLLM holds token ids, so only its owner may read the file.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.console import Console

from radixroute.cli.console import cell, show, show_json, show_table, table_of, tell
from radixroute.cli.shared import (
    JsonOption,
    RouterOption,
    config_for,
    find_router,
    require_address,
)
from radixroute.errors import BadInput, DamagedRecording, NotRecorded

if TYPE_CHECKING:
    from radixroute.events.recording.capture import Capture
    from radixroute.events.recording.reader import RecordingReader
    from radixroute.events.recording.recorded import Point, Rebuilt
    from radixroute.live.event_sources import SourceFinder

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The recording.")]
POINT_HELP = "Seconds (12.5), a record's number (r120) or end."

events = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Record the workers' event streams; show a recording and rebuild the index from it.\n\n"
    "Example: [bold]radixroute events record run.rrev --seconds 10[/]",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    events.command()(record)
    events.command("show")(show_recording)
    events.command()(replay)
    app.add_typer(events, name="events")


def record(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    file: FileArgument,
    *,
    worker: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A worker to record; may be repeated."),
    ] = None,
    vllm: Annotated[
        list[str] | None,
        typer.Option(metavar="tcp://HOST:PORT", help="The KV events of a vLLM or SGLang engine."),
    ] = None,
    vllm_replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Its replay socket, one for each --vllm, or none. [default: the next port]",
        ),
    ] = None,
    router: RouterOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop by itself, so long after all snapshots arrived."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Record live event streams into a file, from a snapshot on, until Ctrl-C.

    Without --worker and --vllm: all workers of the router. What vLLM sends holds token ids; it
    begins with what the engine's replay socket still keeps, and what was missed is asked for there.

    Example: [bold]radixroute events record run.rrev --seconds 10[/]
    """
    workers, engines = worker or [], vllm or []
    if router is not None and (workers or engines):
        raise BadInput("give --router, or --worker and --vllm; not both")
    for address in workers:
        require_address("worker", address)
    for endpoint in (*engines, *(one for one in vllm_replay or () if one != "none")):
        require_address("engine", endpoint.removeprefix("tcp://"))
    from radixroute.live.event_sources import SourceFinder, engine_endpoints

    own = None if workers or engines else find_router(config_for(ctx, router))
    endpoints = engine_endpoints(engines, vllm_replay)
    _require_free(file, force)
    finder = SourceFinder(workers=workers, vllm=endpoints, router=own)
    try:
        capture = _record(file, finder, seconds, force)
    finally:
        finder.close()
    _report(file, capture)


def show_recording(
    file: FileArgument,
    *,
    source: Annotated[
        str | None, typer.Option(metavar="WORKER[/RANK]", help="Only what this one sent.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="POINT", help=POINT_HELP)] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="POINT", help=POINT_HELP)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one document a line, with every key.")
    ] = False,
) -> None:
    """Print what a recording says, record by record; gaps and epoch changes are marked.

    Example: [bold]radixroute events show run.rrev --source worker-0 --from 2 --to r500[/]
    """
    start, stop = _point(first or "r0"), _point(last or "end")
    with _opened(file) as reader:
        _list(reader, source, start, stop, as_json=as_json)
        _tell_ending(file, reader)


def replay(
    file: FileArgument,
    *,
    at: Annotated[str, typer.Option(metavar="POINT", help=POINT_HELP)] = "end",
    diff: Annotated[
        str | None, typer.Option(metavar="POINT", help="What changed from --at to there.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="With --diff: the block keys that came and went.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the index as a router had it at a point of a recording; or compare two points.

    Example: [bold]radixroute events replay run.rrev --at 2.5 --diff end[/]
    """
    if keys and diff is None:
        raise BadInput("--keys goes with --diff POINT")
    points = [_point(one) for one in (at, diff) if one is not None]
    with _opened(file) as reader:
        from radixroute.events.errors import PointBeyondEnd
        from radixroute.events.recording.recorded import rebuild

        try:
            found = rebuild(reader, points)
        except PointBeyondEnd as error:
            raise BadInput(f"{file}: {error}") from error
        _tell_ending(file, reader)
    if as_json:
        _replay_json(found, with_keys=keys)
        return
    _show_contents(found[0])
    if diff is not None:
        _show_changes(found[0], found[1], with_keys=keys)


# -- recording -------------------------------------------------------------------------------------


def _record(file: Path, finder: "SourceFinder", seconds: float | None, force: bool) -> "Capture":
    from radixroute.events.errors import EventError
    from radixroute.events.warm import warm
    from radixroute.live.event_recording import record_into
    from radixroute.radix.errors import RadixError

    warm()  # loading kernels takes a second, by which the first messages would seem late
    found = finder.find()
    if not found.sources:
        raise NotRecorded("no workers have joined yet: there is nothing to record")
    tell(f"recording {_streams(sum(s.ranks for s in found.sources))} into {file}; Ctrl-C ends it")
    try:
        with _created(file, force) as out, Console(stderr=True).status("") as status:
            return record_into(
                out,
                finder,
                found,
                seconds=seconds,
                on_turn=lambda capture: status.update(_progress(capture)),
            )
    except (EventError, RadixError) as error:
        raise NotRecorded(str(error)) from error
    except OSError as error:
        raise NotRecorded(f"cannot write {file}: {error.strerror}") from error


def _require_free(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise BadInput(f"{file} exists: give another name, or --force to replace it")


@contextmanager
def _created(file: Path, force: bool) -> Iterator[BinaryIO]:
    """A new file that its owner alone may read; the old one is only removed if that was meant."""
    if force and file.is_file():
        file.unlink()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        yield out


def _progress(capture: "Capture") -> str:
    gaps = sum(one.gaps for one in capture.standings())
    return (
        f"{capture.elapsed_ns / 1e9:.0f} s: {capture.counters.messages:,} messages, "
        f"{capture.n_bytes / 1e3:,.0f} kB, {gaps} gaps"
    )


def _streams(n: int) -> str:
    return "1 stream" if n == 1 else f"{n} streams"


def _report(file: Path, capture: "Capture") -> None:
    standings = capture.standings()
    show(
        f"recorded {capture.counters.messages:,} messages of {_streams(len(standings))} in "
        f"{capture.elapsed_ns / 1e9:.1f} s into [bold]{cell(file)}[/] "
        f"({capture.n_bytes / 1e3:,.0f} kB)"
    )
    if not capture.counters.messages:
        show("[yellow]nothing was heard: is the address right, and does anything publish there?[/]")
    if capture.refused:
        show(f"[yellow]{capture.refused} messages were too big to record[/]")
    from radixroute.cli.event_lines import agreement, printable
    from radixroute.events.recording.listing import stream_name

    table = table_of("", ("stream", "state", "last seq", "gaps", "digest"), left=("stream",))
    for one in standings:
        seq = "-" if one.applied_seq is None else str(one.applied_seq)
        name = cell(printable(stream_name(one.holder)))
        table.add_row(name, one.state.value, seq, str(one.gaps), agreement(one))
    show_table(table)


# -- reading ---------------------------------------------------------------------------------------


@contextmanager
def _opened(file: Path) -> "Iterator[RecordingReader]":
    from radixroute.events.errors import RecordingError
    from radixroute.events.recording.reader import RecordingReader

    try:
        data = file.open("rb")
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    with data:
        try:
            reader = RecordingReader(data)
        except (RecordingError, OSError) as error:
            raise BadInput(f"cannot read {file}: {error}") from error
        try:
            yield reader
        except RecordingError as error:
            raise DamagedRecording(f"{file}: {error}") from error


def _tell_ending(file: Path, reader: "RecordingReader") -> None:
    from radixroute.events.recording.reader import Ending

    if reader.ending in (Ending.CUT, Ending.UNFINISHED):
        place = "" if reader.cut_at is None else f" at byte {reader.cut_at}"
        tell(
            f"{file} ends{place} without an end mark, after r{reader.n_records} "
            f"({reader.end_ns / 1e9:.3f} s): {reader.ending.value}"
        )


def _point(text: str) -> "Point":
    from radixroute.events.errors import BadPoint
    from radixroute.events.recording.recorded import parse_point

    try:
        return parse_point(text)
    except BadPoint as error:
        raise BadInput(str(error)) from error


def _list(
    reader: "RecordingReader",
    source: str | None,
    start: "Point",
    stop: "Point",
    *,
    as_json: bool,
) -> None:
    from radixroute.cli.event_lines import TROUBLES, entry_json, entry_lines, header_line
    from radixroute.events.recording.listing import listed

    out = Console(soft_wrap=True, highlight=False)
    if not as_json:
        out.print(cell(header_line(reader.header)))
    for entry in listed(reader, source=source, start=start, stop=stop):
        if as_json:
            print(json.dumps(entry_json(entry)))
            continue
        style = "yellow" if entry.kind in TROUBLES else None
        for line in entry_lines(entry):
            out.print(line, style=style, markup=False)


def _show_contents(rebuilt: "Rebuilt") -> None:
    from radixroute.cli.event_lines import PLACE_COLUMNS, content_cells, printable

    show(f"the index at {rebuilt.at_ns / 1e9:.3f} s, after record r{rebuilt.record}")
    columns = (*PLACE_COLUMNS, "gaps", "digest")
    table = table_of("", columns, left=("stream", "state", "digest"))
    for content in rebuilt.contents:
        table.add_row(*(cell(printable(one)) for one in content_cells(content)))
    show_table(table)


def _show_changes(before: "Rebuilt", after: "Rebuilt", *, with_keys: bool) -> None:
    from radixroute.cli.event_lines import change_lines, counts_text, printable
    from radixroute.events.recording.listing import stream_name
    from radixroute.events.recording.recorded import changes

    found = changes(before, after)
    show(f"from there to {after.at_ns / 1e9:.3f} s, after record r{after.record}")
    table = table_of("", ("stream", "added", "removed"), left=("stream",))
    for one in found:
        name = cell(printable(stream_name(one.holder)))
        table.add_row(name, counts_text(one.added), counts_text(one.removed))
    show_table(table)
    if with_keys:
        for one in found:
            for line in change_lines(one):
                print(line)


def _replay_json(found: "list[Rebuilt]", *, with_keys: bool) -> None:
    from radixroute.cli.event_lines import change_json, rebuilt_json
    from radixroute.events.recording.recorded import changes

    value = {"at": rebuilt_json(found[0])}
    if len(found) == 2:
        value["to"] = rebuilt_json(found[1])
        diff = [change_json(one, with_keys=with_keys) for one in changes(found[0], found[1])]
        show_json({**value, "diff": diff})
        return
    show_json(value)
