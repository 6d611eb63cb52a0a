"""Our own trace files: JSON lines, a header and then a request on each. Read and written here.

    {"schema": "radixroute.trace", "version": 1, "block_size": 64, "name": "chats"}
    {"arrival_ms": 0, "input_tokens": 70, "output_tokens": 9, "blocks": [0, 1]}
    {"arrival_ms": 2500.5, "input_tokens": 140, "output_tokens": 9, "blocks": [0, 2, 3], "after": 0}
    {"arrival_ms": 10, "input_tokens": 70, "output_tokens": 9, "blocks": [0, 1], "after": [0, 1]}

`arrival_ms` counts from the start of the trace; with `after`, the number (from 0) of an earlier
request or several of them, from the end of the last of these. `session` instead makes a request
follow the last one above that names the same session. `program` is a number that requests of one
program share; without it those that wait for each other are one. Times are decimal and exact to the
nanosecond.
"""

import json
from decimal import Decimal
from typing import Protocol

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import NAMELESS, NS_PER_MS, TraceDraft, nanoseconds
from radixroute.replay.traces.json_formats import check_no_repeat, decoded, fields_of
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading.wanted import Wanted
from radixroute.replay.traces.trace import Trace

SCHEMA = "radixroute.trace"
VERSION = 1


class _Header(msgspec.Struct):
    schema: str
    version: int
    block_size: int
    name: str = ""


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    arrival_ms: Decimal
    input_tokens: int
    output_tokens: int
    blocks: list[int]
    session: str | int | None = None
    after: int | list[int] | None = None
    program: int | None = None


_HEADER = msgspec.json.Decoder(_Header)
_ROW = msgspec.json.Decoder(_Row)


class OwnReader:
    """Rows of our own format."""

    def __init__(self, header: bytes, wanted: Wanted) -> None:
        found: _Header = decoded(_HEADER, header)
        if (found.schema, found.version) != (SCHEMA, VERSION):
            raise BadTrace(f"its header must say {SCHEMA}, version {VERSION}")
        if wanted.block_size not in (None, found.block_size):
            raise BadTrace(f"its header says blocks of {found.block_size} tokens: give no other")
        self.draft = TraceDraft(found.block_size)
        self.name = found.name or None
        self._n_rows = 0
        self._request_of_row: dict[int, int] = {}  # `after` counts rows, also those skipped
        self._last_of_session: dict[str | int, int] = {}

    def take(self, line: bytes) -> None:
        row_number = self._n_rows
        self._n_rows += 1
        row: _Row = decoded(_ROW, line)
        if row.session == "":
            row.session = None
            self.draft.repairs[NAMELESS] += 1
        check_no_repeat(row.blocks)
        number = self.draft.add(
            nanoseconds(row.arrival_ms, NS_PER_MS),
            (row.input_tokens, row.output_tokens),
            row.blocks,
            after=self._before(row),
            program=_program(row.program),
        )
        self._request_of_row[row_number] = number
        if row.session is not None:
            self._last_of_session[row.session] = number

    def _before(self, row: _Row) -> int | list[int] | None:
        if row.after is None:
            return None if row.session is None else self._last_of_session.get(row.session)
        if row.session is not None:
            raise BadTrace("it has a session and after: give one of them")
        rows = [row.after] if isinstance(row.after, int) else row.after
        if not rows or not self._request_of_row.keys() >= set(rows):
            raise BadTrace("after must be the number of a request above, counted from 0")
        return [self._request_of_row[one] for one in rows]


class ByteSink(Protocol):
    """Where a trace is written: an open file, compressed or not."""

    def write(self, data: bytes, /) -> object:
        """Takes all of it."""


def write_own(trace: Trace, file: ByteSink) -> None:
    """The trace as a file of our own; read again it has the same columns and name."""
    header = {
        "schema": SCHEMA,
        "version": VERSION,
        "block_size": trace.block_size,
        "name": trace.name,
    }
    file.write(json.dumps(header).encode() + b"\n")
    ids = trace.blocks.view("uint64")
    for request in range(len(trace)):
        blocks = ids[trace.first_block[request] : trace.first_block[request + 1]]
        row = (
            f'{{"arrival_ms": {_milliseconds(int(trace.arrival_ns[request]))}, '
            f'"input_tokens": {trace.input_tokens[request]}, '
            f'"output_tokens": {trace.output_tokens[request]}, '
            f'"blocks": {blocks.tolist()}{_after(trace, request)}{_of_program(trace, request)}}}\n'
        )
        file.write(row.encode())


def _after(trace: Trace, request: int) -> str:
    after = int(trace.after[request])
    if after < 0:
        return ""
    others = trace.joined.get(request)
    return f', "after": {[after, *others] if others else after}'


def _of_program(trace: Trace, request: int) -> str:
    return "" if trace.program is None else f', "program": {trace.program[request]}'


def _program(number: int | None) -> int | None:
    if number is not None and not 0 <= number < 1 << 62:
        raise BadTrace("program must be a number from 0 to 2^62 - 1")
    return number


def _milliseconds(ns: int) -> str:
    whole, rest = divmod(ns, NS_PER_MS)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else str(whole)


def _is_own(line: bytes) -> bool:
    return fields_of(line).get("schema") == SCHEMA


OWN = TraceFormat("own", True, _is_own, OwnReader, from_zero=False)
