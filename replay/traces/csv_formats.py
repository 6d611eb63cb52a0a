"""Traces as CSV, with lengths only: no two of their requests share a prefix.

Owns the columns of Azure's and BurstGPT's files, and those of the plain form. Further columns are
left alone: BurstGPT's sessions say nothing about prefixes.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import NS_PER_MS, NS_PER_S, TraceDraft, nanoseconds
from radixroute.replay.traces.reader import TraceFormat

_BLOCK = 512  # as Mooncake's; without shared prefixes any size will do
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Columns:
    arrival: str
    input_tokens: str
    output_tokens: str
    time: Callable[[str], int]  # text -> ns

    @property
    def names(self) -> tuple[str, str, str]:
        return self.arrival, self.input_tokens, self.output_tokens


class CsvReader:
    """Rows under a header that names three columns we know."""

    name = None

    def __init__(self, columns: _Columns, header: bytes, block_size: int | None) -> None:
        self.draft = TraceDraft(block_size or _BLOCK)
        self._columns = columns
        found = _cells(header.removeprefix(_BOM))
        missing = [name for name in columns.names if name not in found]
        if missing:
            raise BadTrace(f"its header lacks {', '.join(missing)}")
        self._places = [found.index(name) for name in columns.names]

    def take(self, line: bytes) -> None:
        cells = _cells(line)
        if len(cells) <= max(self._places):
            raise BadTrace(f"{len(cells)} columns are too few for this header")
        arrival, n_input, n_output = (cells[place] for place in self._places)
        names = self._columns
        tokens = (_whole(n_input, names.input_tokens), _whole(n_output, names.output_tokens))
        self.draft.add(names.time(arrival), tokens, None)


def _cells(line: bytes) -> Sequence[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line.decode()]))]
    except (UnicodeDecodeError, csv.Error) as broken:
        raise BadTrace("not a line of CSV in UTF-8") from broken


def _whole(text: str, name: str) -> int:
    # `int` would take "1_000" and digits of other scripts too.
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
        raise BadTrace(f"{name} is no whole number")
    return int(text)


def _number(text: str, unit_ns: int) -> int:
    try:
        value = float(text)
    except ValueError as broken:
        raise BadTrace("its time is no number") from broken
    return nanoseconds(value, unit_ns)


def _calendar(text: str) -> int:
    """A date with a time, UTC unless it says otherwise; cut to microseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as broken:
        raise BadTrace("its time is not written as 2023-11-16 18:17:03.979960") from broken
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _claims(columns: _Columns, line: bytes) -> bool:
    try:
        return set(columns.names) <= set(_cells(line.removeprefix(_BOM)))
    except BadTrace:
        return False


def _format(name: str, columns: _Columns) -> TraceFormat:
    return TraceFormat(name, True, partial(_claims, columns), partial(CsvReader, columns))


_milliseconds = partial(_number, unit_ns=NS_PER_MS)
_seconds = partial(_number, unit_ns=NS_PER_S)

CSV_FORMATS = (
    _format("azure", _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", _calendar)),
    _format("burstgpt", _Columns("Timestamp", "Request tokens", "Response tokens", _seconds)),
    _format("csv", _Columns("arrival_ms", "input_tokens", "output_tokens", _milliseconds)),
)
