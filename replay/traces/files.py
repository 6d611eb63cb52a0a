"""Trace files: which format a file has, and its lines through that format's reader to a `Trace`.

Owns the table of formats, and what happens to lines that cannot be read: the first ends the
reading, or each is counted. How a file is packed is told by content, as the format is
(`reading.packing`). A new format is one file and one entry in the table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.chats.encoder import PromptEncoder
from radixroute.replay.traces.chats.formats import SHAREGPT, WILDCHAT
from radixroute.replay.traces.csv_formats import CSV_FORMATS
from radixroute.replay.traces.draft import MAX_TOKENS, TraceDraft
from radixroute.replay.traces.json_formats import BAILIAN, MOONCAKE
from radixroute.replay.traces.own_format import OWN
from radixroute.replay.traces.programs.agentic_mooncake import AGENTIC_MOONCAKE
from radixroute.replay.traces.programs.dynamo_requests import DYNAMO
from radixroute.replay.traces.reader import TraceFormat, TraceReader
from radixroute.replay.traces.reading.packing import FileRows, rows_of
from radixroute.replay.traces.reading.session_rows import AUTO, check_form
from radixroute.replay.traces.reading.times import Times, doubt, unit_ns
from radixroute.replay.traces.reading.wanted import ChatTimes, Wanted
from radixroute.replay.traces.trace import Trace

_CHATS = (SHAREGPT, WILDCHAT)
_AGENTS = (AGENTIC_MOONCAKE, DYNAMO)
FORMATS = {one.name: one for one in (OWN, BAILIAN, *_AGENTS, MOONCAKE, *CSV_FORMATS, *_CHATS)}
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz")
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_DATES = ChatTimes()


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A trace and what reading it met."""

    trace: Trace
    format: str
    bad_lines: int  # left out, as asked
    first_bad: BadTrace | None  # of those
    empty_outputs: int  # outputs of 0 tokens, made 1
    late: int  # arrivals before one that stands above them: sorted, ties as in the file
    unit: str | None  # that times were read in; None: the file itself names it
    repairs: tuple[str, ...]  # what was mended or left out, with how often
    remarks: tuple[str, ...]  # how that was taken which the format leaves open
    doubts: tuple[str, ...]  # what may be meant otherwise, with the option that decides it


def read_trace(  # noqa: PLR0913 - what a file leaves open, each by its name
    path: Path,
    format_name: str | None = None,
    *,
    block_size: int | None = None,
    skip_bad: bool = False,
    time_unit: str | None = None,
    default_output: int | None = None,
    session_rows: str = AUTO,
    encoder: PromptEncoder | None = None,
    chat_times: ChatTimes = _DATES,
    limit: int | None = None,
) -> Reading:
    """The trace in a file, however it is packed. Raises `BadTrace`.

    Without `format_name` the names of fields in the first line decide. `block_size`: tokens that
    one block id stands for, where the format leaves that open. `time_unit` (of `times.UNITS`) and
    `default_output` (tokens): where rows do not say. `session_rows` (of `session_rows.FORMS`):
    whether rows of a session repeat its prompt. `encoder`, `chat_times`: for logs of chats, of
    which no more is read once there are `limit` requests.
    """
    wanted = Wanted(block_size, time_unit, default_output, session_rows, encoder, chat_times, limit)
    _check(wanted)
    file = str(path)
    with _reported(file), rows_of(path, _is_csv) as found:
        first = next(found.rows, None)
        if first is None:
            raise BadTrace("the file is empty", file=file)
        number, line = first
        with _located(number, file, found.called):
            chosen = _chosen(line, format_name)
            _check_suits(chosen, wanted)
            reader = chosen.start(line, wanted)
        rows = found.rows if chosen.has_header else chain([first], found.rows)
        enough = wanted.limit if chosen.is_slow else None
        bad = _take(reader, FileRows(rows, found.called), file, enough)
        if bad is not None and not len(reader.draft):
            raise _nothing_read(bad, file, found.called)
        if bad is not None and not skip_bad:
            raise bad
        return _reading(chosen, reader, path, wanted, bad)


def _take(reader: TraceReader, found: FileRows, file: str, enough: int | None) -> BadTrace | None:
    """All lines into the reader's draft. The first that cannot be read, with how many there are.

    With `enough`, only until the draft has so many requests.
    """
    first = None
    for number, line in found.rows:
        if enough is not None and len(reader.draft) >= enough:
            reader.draft.remarks.append(
                f"--limit: {found.called}s from {number:,} on were not read"
            )
            break
        try:
            reader.take(line)
        except BadTrace as bad:
            first = first or BadTrace(bad.reason, number, file, found.called)
            first.n_bad += 1
    return first


def _nothing_read(first: BadTrace, file: str, called: str) -> BadTrace:
    """Without a count of bad ones: leaving them out would leave nothing."""
    none = f"none of {first.n_bad:,} {called}s can be read; the first: " if first.n_bad > 1 else ""
    return BadTrace(f"{none}{first.reason}", first.line, file, called)


def _reading(
    chosen: TraceFormat, reader: TraceReader, path: Path, wanted: Wanted, bad: BadTrace | None
) -> Reading:
    draft = reader.draft
    trace = draft.trace(reader.name or _stem(path), from_zero=chosen.from_zero)
    if chosen.finish is not None:
        trace = chosen.finish(reader, trace)
    unit = (wanted.time_unit or chosen.unit) if chosen.unit else None
    n_timed = int((trace.after < 0).sum())
    strange = doubt(Times(n_timed, draft.first_ns, trace.duration_ns, unit))
    return Reading(
        trace=trace,
        format=chosen.name,
        bad_lines=bad.n_bad if bad is not None else 0,
        first_bad=bad,
        empty_outputs=draft.empty_outputs,
        late=draft.late,
        unit=unit,
        repairs=tuple(_repairs(draft, bad)),
        remarks=tuple(draft.remarks),
        doubts=(*([strange] if strange else []), *draft.doubts),
    )


def _repairs(draft: TraceDraft, bad: BadTrace | None) -> Iterator[str]:
    if bad is not None:
        yield f"{bad.n_bad:,} bad lines were skipped; the first: {bad}"
    if draft.empty_outputs:
        yield f"{draft.empty_outputs:,} outputs of 0 tokens became 1: an engine always gives one"
    late = draft.late
    if late:
        yield f"{late:,} rows came before one that stands above them: all were sorted by time"
    yield from (f"{n:,} {what}" for what, n in draft.repairs.items() if n)


def _check(wanted: Wanted) -> None:
    check_form(wanted.session_rows)
    if wanted.time_unit is not None:
        unit_ns(wanted.time_unit)
    if wanted.default_output is not None and not 1 <= wanted.default_output <= MAX_TOKENS:
        raise BadTrace(f"an output has from 1 to {MAX_TOKENS} tokens, not {wanted.default_output}")


def _check_suits(chosen: TraceFormat, wanted: Wanted) -> None:
    """Refuses what would have no effect: whoever gave it believes that it has."""
    if wanted.time_unit is not None and chosen.unit is None:
        raise BadTrace(f"times of the format {chosen.name} name their unit: leave --time-unit out")
    if wanted.session_rows != AUTO and chosen.finish is None:
        raise BadTrace(
            f"rows of the format {chosen.name} leave nothing open about sessions: leave"
            " --session-rows out"
        )


def _chosen(first_line: bytes, name: str | None) -> TraceFormat:
    if name is not None:
        if name not in FORMATS:
            raise BadTrace(f"no format is called {name}: give one of {', '.join(FORMATS)}")
        return FORMATS[name]
    for one in FORMATS.values():
        if one.claims(first_line):
            return one
    raise BadTrace(f"it fits no format: name it by --format, one of {', '.join(FORMATS)}")


def _is_csv(header: bytes) -> bool:
    return any(one.claims(header) for one in CSV_FORMATS)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (*_PACKED, *_PACKED, *_SUFFIXES):
        name = name.removesuffix(suffix)
    return name or path.name


@contextmanager
def _reported(file: str) -> Iterator[None]:
    """What reading files may raise, as ours, with the file's name as it was given."""
    try:
        yield
    except BadTrace as bad:
        raise bad if bad.file else BadTrace(bad.reason, bad.line, file) from bad
    except OSError as broken:
        raise BadTrace(f"cannot be read: {broken.strerror or broken}", file=file) from broken


@contextmanager
def _located(line: int, file: str, called: str) -> Iterator[None]:
    try:
        yield
    except BadTrace as bad:
        raise BadTrace(bad.reason, line, file, called) from bad
