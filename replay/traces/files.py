"""Trace files: which format a file has, and its lines through that format's reader to a `Trace`.

Owns the table of formats, and what happens to lines that cannot be read: the first ends the
reading, or each is counted. Compression is told by content, as the format is. A new format is one
file and one entry in the table.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.csv_formats import CSV_FORMATS
from radixroute.replay.traces.json_formats import BAILIAN, MOONCAKE
from radixroute.replay.traces.own_format import OWN
from radixroute.replay.traces.programs.agentic_mooncake import AGENTIC_MOONCAKE
from radixroute.replay.traces.programs.dynamo_requests import DYNAMO
from radixroute.replay.traces.reader import TraceFormat, TraceReader
from radixroute.replay.traces.trace import Trace

FORMATS = {
    one.name: one for one in (OWN, BAILIAN, AGENTIC_MOONCAKE, DYNAMO, MOONCAKE, *CSV_FORMATS)
}
_GZIP = b"\x1f\x8b"
_SUFFIXES = (".gz", ".jsonl", ".json", ".csv")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A trace and what reading it met."""

    trace: Trace
    format: str
    bad_lines: int  # skipped, as asked
    first_bad: BadTrace | None  # of those
    empty_outputs: int  # outputs of 0 tokens, made 1
    late: int  # arrivals before one that stands above them: sorted, ties as in the file


def read_trace(
    path: Path,
    format_name: str | None = None,
    *,
    block_size: int | None = None,
    skip_bad: bool = False,
) -> Reading:
    """The trace in a file, plain or compressed by gzip. Raises `BadTrace`.

    Without `format_name` the first line decides. `block_size`: tokens that one block id stands for,
    where the format leaves that open.
    """
    with _reported(path.name), path.open("rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        lines = _lines(gzip.GzipFile(fileobj=file) if is_gzip else file)
        first = next(lines, None)
        if first is None:
            raise BadTrace("the file is empty", file=path.name)
        number, line = first
        chosen = _chosen(line, format_name)
        with _located(number, path.name):
            reader = chosen.start(line, block_size)
        bad = _take(reader, lines if chosen.has_header else chain([first], lines), path.name)
        return _reading(chosen, reader, path, list(bad) if skip_bad else _refuse(bad))


def _take(reader: TraceReader, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[BadTrace]:
    """All lines into the reader's draft; gives those that cannot be read as it meets them."""
    for number, line in lines:
        try:
            reader.take(line)
        except BadTrace as bad:
            yield BadTrace(bad.reason, number, file)


def _refuse(bad: Iterable[BadTrace]) -> list[BadTrace]:
    for one in bad:
        raise one
    return []


def _reading(chosen: TraceFormat, reader: TraceReader, path: Path, bad: list[BadTrace]) -> Reading:
    draft = reader.draft
    if not len(draft) and bad:
        raise BadTrace(f"no line can be read; the first: {bad[0].reason}", bad[0].line, path.name)
    return Reading(
        trace=draft.trace(reader.name or _stem(path), from_zero=chosen.from_zero),
        format=chosen.name,
        bad_lines=len(bad),
        first_bad=bad[0] if bad else None,
        empty_outputs=draft.empty_outputs,
        late=draft.late,
    )


def _chosen(first_line: bytes, name: str | None) -> TraceFormat:
    if name is not None:
        if name not in FORMATS:
            raise BadTrace(f"no format is called {name}: give one of {', '.join(FORMATS)}")
        return FORMATS[name]
    for one in FORMATS.values():
        if one.claims(first_line):
            return one
    raise BadTrace(f"its first line fits no format: name it, one of {', '.join(FORMATS)}")


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1; blank ones are left out."""
    for number, line in enumerate(file, 1):
        text = line.strip()
        if text:
            yield number, text


def _stem(path: Path) -> str:
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name or path.name


@contextmanager
def _reported(file: str) -> Iterator[None]:
    """What reading files may raise, as ours, with the file's name."""
    try:
        yield
    except BadTrace as bad:
        raise bad if str(bad).startswith(file) else BadTrace(bad.reason, bad.line, file) from bad
    except (EOFError, zlib.error, gzip.BadGzipFile) as broken:
        raise BadTrace(f"its compression is damaged: {broken}", file=file) from broken
    except OSError as broken:
        raise BadTrace(f"cannot be read: {broken.strerror}", file=file) from broken


@contextmanager
def _located(line: int, file: str) -> Iterator[None]:
    try:
        yield
    except BadTrace as bad:
        raise BadTrace(bad.reason, line, file) from bad
