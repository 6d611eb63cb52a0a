"""Recording on the command line: a new file, the streams into it, and what came of them.

Owns the file while it is made: only its owner may read it, and none is replaced unasked. The loop
is `live.event_recording`'s.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console

from radixroute.cli.console import cell, show, show_table, table_of, tell
from radixroute.cli.events.tables import show_drops
from radixroute.errors import BadInput, NotRecorded
from radixroute.replay.report.text import printable

if TYPE_CHECKING:
    from radixroute.events.recording.capture import Capture
    from radixroute.live.event_sources import SourceFinder


def record_streams(
    file: Path, finder: "SourceFinder", seconds: float | None, force: bool
) -> "Capture":
    found = finder.find()  # before anything is compiled: there may be nothing to record
    if not found.sources:
        raise NotRecorded("no workers have joined yet: there is nothing to record")
    from radixroute.events.errors import EventError
    from radixroute.events.warm import warm
    from radixroute.live.event_recording import record_into
    from radixroute.radix.errors import RadixError

    warm()  # loading kernels takes a second, by which the first messages would seem late
    found = finder.look()
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


def require_free(file: Path, force: bool) -> None:
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


def show_capture(file: Path, capture: "Capture") -> None:
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
    from radixroute.cli.events.lines import agreement
    from radixroute.events.recording.listing import stream_name

    table = table_of("", ("stream", "state", "last seq", "gaps", "digest"), left=("stream",))
    for one in standings:
        seq = "-" if one.applied_seq is None else str(one.applied_seq)
        name = cell(printable(stream_name(one.holder)))
        table.add_row(name, one.state.value, seq, str(one.gaps), agreement(one))
    show_table(table)
    show_drops(standings)
