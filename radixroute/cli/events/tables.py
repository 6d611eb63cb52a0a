"""Recordings on the console: entries line by line, an index's contents and changes as tables.

Prints; how a line or a value looks is the business of `lines`.
"""

import json
from typing import TYPE_CHECKING

from rich.console import Console

from radixroute.cli.console import cell, show, show_json, show_table, table_of
from radixroute.replay.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radixroute.events.recording.followed import Standing
    from radixroute.events.recording.reader import RecordingReader
    from radixroute.events.recording.recorded import Point, Rebuilt


def show_entries(
    reader: "RecordingReader",
    source: str | None,
    start: "Point",
    stop: "Point",
    *,
    as_json: bool,
) -> None:
    from radixroute.cli.events.lines import TROUBLES, entry_json, entry_lines, header_line
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


def show_contents(rebuilt: "Rebuilt") -> None:
    from radixroute.cli.events.lines import PLACE_COLUMNS, content_cells

    show(f"the index at {rebuilt.at_ns / 1e9:.3f} s, after record r{rebuilt.record}")
    columns = (*PLACE_COLUMNS, "gaps", "digest")
    table = table_of("", columns, left=("stream", "state", "digest"))
    for content in rebuilt.contents:
        table.add_row(*(cell(printable(one)) for one in content_cells(content)))
    show_table(table)
    show_drops([content.standing for content in rebuilt.contents])


def show_drops(standings: "Sequence[Standing]") -> None:
    """What foreign engines said and nobody could believe, by reason: else it would look unsaid."""
    dropped = {one.holder.worker: one.dropped for one in standings if one.dropped}
    for worker, reasons in dropped.items():
        told = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in reasons.items())
        show(f"[yellow]not believed of {cell(printable(worker))}: {told}[/]")


def show_changes(before: "Rebuilt", after: "Rebuilt", *, with_keys: bool) -> None:
    from radixroute.cli.events.lines import change_lines, counts_text
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


def show_rebuilt_json(found: "list[Rebuilt]", *, with_keys: bool) -> None:
    from radixroute.cli.events.lines import change_json, rebuilt_json
    from radixroute.events.recording.recorded import changes

    value = {"at": rebuilt_json(found[0])}
    if len(found) == 2:
        value["to"] = rebuilt_json(found[1])
        diff = [change_json(one, with_keys=with_keys) for one in changes(found[0], found[1])]
        show_json({**value, "diff": diff})
        return
    show_json(value)
