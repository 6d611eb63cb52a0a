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
from radixroute.replay.traces.draft import DEFAULTED, NS_PER_MS, TraceDraft, nanoseconds
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading.times import unit_ns
from radixroute.replay.traces.reading.wanted import Wanted

_BLOCK = 512  # as Mooncake's; without shared prefixes any size will do
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Columns:
    arrival: str
    input_tokens: str
    output_tokens: str
    time: Callable[[str, int], int]  # (text, ns of the unit) -> ns
    unit: str | None  # of times that do not say it

    @property
    def needed(self) -> tuple[str, str]:
        """What makes a file one of this format: a default can stand for outputs."""
        return self.arrival, self.input_tokens


class CsvReader:
    """Rows under a header that names three columns we know."""

    name = None

    def __init__(self, columns: _Columns, header: bytes, wanted: Wanted) -> None:
        self.draft = TraceDraft(wanted.block_size or _BLOCK)
        self._columns, self._default_output = columns, wanted.default_output
        self._unit_ns = unit_ns(wanted.time_unit or columns.unit or "ns")
        found = _cells(header)
        missing = [name for name in columns.needed if name not in found]
        if missing:
            raise BadTrace(f"its header lacks {', '.join(missing)}")
        if columns.output_tokens not in found and wanted.default_output is None:
            raise BadTrace(
                f"its header lacks {columns.output_tokens}: --default-output N gives every output N"
                " tokens"
            )
        self._place = {name: found.index(name) for name in found}
        self._n_columns = 1 + max(self._place[name] for name in columns.needed)

    def take(self, line: bytes) -> None:
        cells, names = _cells(line), self._columns
        place = self._place.get(names.output_tokens, -1)
        if len(cells) < max(self._n_columns, place + 1):
            raise BadTrace(f"{len(cells)} columns are too few for this header")
        n_input = _whole(cells[self._place[names.input_tokens]], names.input_tokens)
        n_output = self._output(cells[place] if place >= 0 else "")
        arrival_ns = names.time(cells[self._place[names.arrival]], self._unit_ns)
        self.draft.add(arrival_ns, (n_input, n_output), None)

    def _output(self, text: str) -> int:
        if text or self._default_output is None:
            return _whole(text, self._columns.output_tokens)
        self.draft.repairs[DEFAULTED] += 1
        return self._default_output


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


def _number(text: str, unit: int) -> int:
    try:
        value = float(text)
    except ValueError as broken:
        raise BadTrace("its time is no number") from broken
    return nanoseconds(value, unit)


def _milliseconds(text: str, _unit: int) -> int:
    return _number(text, NS_PER_MS)  # its name says so


def _calendar(text: str, _unit: int) -> int:
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
        return set(columns.needed) <= set(_cells(line))
    except BadTrace:
        return False


def _format(name: str, columns: _Columns) -> TraceFormat:
    return TraceFormat(
        name, True, partial(_claims, columns), partial(CsvReader, columns), unit=columns.unit
    )


CSV_FORMATS = (
    _format("azure", _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", _calendar, None)),
    _format("burstgpt", _Columns("Timestamp", "Request tokens", "Response tokens", _number, "s")),
    _format("csv", _Columns("arrival_ms", "input_tokens", "output_tokens", _milliseconds, None)),
)
