"""Foreign traces as JSON lines: Mooncake's rows, as AIPerf and Dynamo extended them, and Bailian's.

Owns what the fields of those formats mean. Mooncake's times are milliseconds; a row that names a
session follows the session's row above it: `delay` after that one ended, or without a delay by the
difference of their timestamps, as Dynamo replays it. Whether such a row is the whole prompt or what
it adds to it is told by its block ids (`reading.session_rows`). Bailian's times are seconds, taken
as they are: its sessions are known only afterwards, so its requests come when they came.
"""

from typing import Any

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import DEFAULTED, NAMELESS, NS_PER_MS, TraceDraft, nanoseconds
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading import session_rows
from radixroute.replay.traces.reading.session_rows import SessionEvidence, SessionRow
from radixroute.replay.traces.reading.times import unit_ns
from radixroute.replay.traces.reading.wanted import Wanted
from radixroute.replay.traces.trace import Trace

_MOONCAKE_BLOCK, _MOONCAKE_UNIT = 512, "ms"
_BAILIAN_BLOCK, _BAILIAN_UNIT = 16, "s"


class _Row(msgspec.Struct):
    timestamp: float | None = None
    created_time: float | None = None
    delay: float | None = None
    delay_ms: float | None = None
    input_length: int | None = None
    input_tokens: int | None = None
    output_length: int | None = None
    output_tokens: int | None = None
    hash_ids: list[int] | None = None
    request_id: str | int | None = None
    session_id: str | int | None = None
    # Known, and not for us.
    text_input: Any = None
    messages: Any = None
    payload: Any = None
    wait_for: Any = None
    branches: Any = None


class _BailianRow(msgspec.Struct):
    chat_id: int
    timestamp: float
    input_length: int
    hash_ids: list[int]
    output_length: int | None = None


_ROW = msgspec.json.Decoder(_Row)
_BAILIAN_ROW = msgspec.json.Decoder(_BailianRow)


class MooncakeReader:
    """Mooncake's rows: timed requests, and sessions whose turns wait for each other."""

    name = None

    def __init__(self, _first_line: bytes, wanted: Wanted) -> None:
        self.draft = TraceDraft(wanted.block_size or _MOONCAKE_BLOCK)
        self._wanted = wanted
        self._unit_ns = unit_ns(wanted.time_unit or _MOONCAKE_UNIT)
        self._n_rows = 0
        self._request_ids: set[str | int] = set()
        # By session: its last request here, that one's timestamp in ns, and its row.
        self._sessions: dict[str | int, tuple[int, int | None, SessionRow]] = {}
        self._evidence = SessionEvidence()

    def take(self, line: bytes) -> None:
        self._n_rows += 1
        row: _Row = decoded(_ROW, line)
        _check_is_ours(row)
        request_id = None if row.request_id == "" else row.request_id
        if request_id is not None and request_id in self._request_ids:
            raise BadTrace("its request_id stands on a line above too")
        session = None if row.session_id == "" else row.session_id
        before = None if session is None else self._sessions.get(session)
        stamp = self._time(row)
        arrival = _first_arrival(stamp) if before is None else self._wait(row, stamp, before[1])
        n_input = _one_of(row.input_length, row.input_tokens, "input_length is missing")
        n_output = self._output(row)
        check_no_repeat(row.hash_ids)
        number = self.draft.add(
            arrival, (n_input, n_output), row.hash_ids, after=None if before is None else before[0]
        )
        self.draft.repairs[NAMELESS] += row.session_id == ""
        self.draft.repairs[DEFAULTED] += row.output_length is None and row.output_tokens is None
        if request_id is not None:
            self._request_ids.add(request_id)
        if session is not None:
            own = SessionRow(self._n_rows, n_input, n_output, row.hash_ids)
            self._sessions[session] = (number, stamp, own)
            if before is not None:
                self._evidence.look(before[2], own, self.draft.block_size)

    def finished(self, trace: Trace) -> Trace:
        """With the prompts of sessions put together where rows only add to them."""
        evidence = self._evidence
        form = session_rows.form_of(evidence, self._wanted.session_rows)
        taken, doubt = session_rows.taken_as(evidence, form), session_rows.doubt(evidence, form)
        self.draft.remarks += [taken] if taken else []
        self.draft.doubts += [doubt] if doubt else []
        return session_rows.accumulated(trace) if form == session_rows.INCREMENT else trace

    def _output(self, row: _Row) -> int:
        return _one_of(
            row.output_length,
            self._wanted.default_output if row.output_tokens is None else row.output_tokens,
            "output_length is missing: --default-output N gives such rows N tokens",
        )

    def _time(self, row: _Row) -> int | None:
        value = row.created_time if row.timestamp is None else row.timestamp
        return None if value is None else nanoseconds(value, self._unit_ns)

    def _wait(self, row: _Row, stamp: int | None, stamp_before: int | None) -> int:
        """Nanoseconds after the request before it ended."""
        if row.delay is not None:
            return nanoseconds(row.delay, self._unit_ns)
        if row.delay_ms is not None:
            return nanoseconds(row.delay_ms, NS_PER_MS)
        if stamp is None or stamp_before is None:
            raise BadTrace("a follow-up needs a delay, or a timestamp as the row before it has")
        if stamp < stamp_before:
            raise BadTrace("its timestamp is before that of the session's row above")
        return stamp - stamp_before


class BailianReader:
    """Rows of Alibaba's Qwen-Bailian traces. An id may stand twice in a prompt there."""

    name = None

    def __init__(self, _first_line: bytes, wanted: Wanted) -> None:
        self.draft = TraceDraft(wanted.block_size or _BAILIAN_BLOCK)
        self._default_output = wanted.default_output
        self._unit_ns = unit_ns(wanted.time_unit or _BAILIAN_UNIT)
        self._chat_ids: set[int] = set()

    def take(self, line: bytes) -> None:
        row: _BailianRow = decoded(_BAILIAN_ROW, line)
        if row.chat_id in self._chat_ids:
            raise BadTrace("its chat_id stands on a line above too")
        arrival = nanoseconds(row.timestamp, self._unit_ns)
        n_output = _one_of(
            row.output_length,
            self._default_output,
            "output_length is missing: --default-output N gives such rows N tokens",
        )
        self.draft.add(arrival, (row.input_length, n_output), row.hash_ids)
        self.draft.repairs[DEFAULTED] += row.output_length is None
        self._chat_ids.add(row.chat_id)


def decoded(decoder: "msgspec.json.Decoder[Any]", line: bytes) -> Any:
    """The line as the decoder's type. Raises `BadTrace`."""
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise BadTrace(str(broken)) from broken


def check_no_repeat(blocks: list[int] | None) -> None:
    """For formats whose ids name whole prefixes: no prompt can hold one of them twice."""
    if blocks is not None and len(set(blocks)) != len(blocks):
        raise BadTrace("a block id stands twice in one prompt, but it names a whole prefix")


def fields_of(line: bytes) -> dict[str, Any]:
    """The fields of a JSON object; none when the line is something else."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_is_ours(row: _Row) -> None:
    if row.wait_for or row.branches:
        raise BadTrace("an agentic row (wait_for, branches): name the format, agentic_mooncake")
    if row.input_length is None and row.input_tokens is None:
        for text in ("text_input", "messages", "payload"):
            if getattr(row, text) is not None:
                raise BadTrace(f"a row with {text}: only rows with input_length can be replayed")


def _first_arrival(stamp: int | None) -> int:
    if stamp is None:
        raise BadTrace("no timestamp, and no row of the same session above: when does it come?")
    return stamp


def _one_of(value: int | None, other: int | None, missing: str) -> int:
    found = other if value is None else value
    if found is None:
        raise BadTrace(missing)
    return found


# Names that only rows of other formats have: a trace read as the wrong one has another unit.
_OTHERS = {"blocks", "arrival_ms", "chat_id", "parent_chat_id", "schema"}


def _is_mooncake(line: bytes) -> bool:
    names = fields_of(line).keys()
    lengths = {"input_length", "input_tokens", "text_input", "messages", "payload"}
    others = {"timestamp", "created_time", "delay", "delay_ms", "session_id", "hash_ids"}
    return bool(lengths & names) and bool(others & names) and not _OTHERS & names


def _is_bailian(line: bytes) -> bool:
    return bool({"chat_id", "parent_chat_id"} & fields_of(line).keys())


MOONCAKE = TraceFormat(
    "mooncake",
    False,
    _is_mooncake,
    MooncakeReader,
    unit=_MOONCAKE_UNIT,
    finish=MooncakeReader.finished,
)
BAILIAN = TraceFormat("bailian", False, _is_bailian, BailianReader, unit=_BAILIAN_UNIT)
