"""Foreign traces as JSON lines: Mooncake's rows, as AIPerf and Dynamo extended them, and Bailian's.

Owns what the fields of those formats mean. Mooncake's times are milliseconds; a row that names a
session follows the session's row above it: `delay` after that one ended, or without a delay by the
difference of their timestamps, as Dynamo replays it. Bailian's times are seconds, taken as they
are: its sessions are known only afterwards, so its requests come when they came.
"""

from typing import Any

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import NS_PER_MS, NS_PER_S, TraceDraft, nanoseconds
from radixroute.replay.traces.reader import TraceFormat

_MOONCAKE_BLOCK = 512
_BAILIAN_BLOCK = 16


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
    output_length: int
    hash_ids: list[int]


_ROW = msgspec.json.Decoder(_Row)
_BAILIAN_ROW = msgspec.json.Decoder(_BailianRow)


class MooncakeReader:
    """Mooncake's rows: timed requests, and sessions whose turns wait for each other."""

    name = None

    def __init__(self, _first_line: bytes, block_size: int | None) -> None:
        self.draft = TraceDraft(block_size or _MOONCAKE_BLOCK)
        self._request_ids: set[str | int] = set()
        # By session: its last request here, and that one's timestamp in ns.
        self._sessions: dict[str | int, tuple[int, int | None]] = {}

    def take(self, line: bytes) -> None:
        row = decoded(_ROW, line)
        _check_is_ours(row)
        if row.request_id is not None and row.request_id in self._request_ids:
            raise BadTrace("its request_id stands on a line above too")
        before = None if row.session_id is None else self._sessions.get(row.session_id)
        stamp = _time(row.timestamp, row.created_time)
        arrival = _first_arrival(stamp) if before is None else _wait(row, stamp, before[1])
        tokens = (
            _one_of(row.input_length, row.input_tokens, "input_length"),
            _one_of(row.output_length, row.output_tokens, "output_length"),
        )
        check_no_repeat(row.hash_ids)
        number = self.draft.add(
            arrival, tokens, row.hash_ids, after=None if before is None else before[0]
        )
        if row.request_id is not None:
            self._request_ids.add(row.request_id)
        if row.session_id is not None:
            self._sessions[row.session_id] = (number, stamp)


class BailianReader:
    """Rows of Alibaba's Qwen-Bailian traces. An id may stand twice in a prompt there."""

    name = None

    def __init__(self, _first_line: bytes, block_size: int | None) -> None:
        self.draft = TraceDraft(block_size or _BAILIAN_BLOCK)
        self._chat_ids: set[int] = set()

    def take(self, line: bytes) -> None:
        row = decoded(_BAILIAN_ROW, line)
        if row.chat_id in self._chat_ids:
            raise BadTrace("its chat_id stands on a line above too")
        arrival = nanoseconds(row.timestamp, NS_PER_S)
        self.draft.add(arrival, (row.input_length, row.output_length), row.hash_ids)
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


def _wait(row: _Row, stamp: int | None, stamp_before: int | None) -> int:
    """Nanoseconds after the request before it ended."""
    delay = _time(row.delay, row.delay_ms)
    if delay is not None:
        return delay
    if stamp is None or stamp_before is None:
        raise BadTrace("a follow-up needs a delay, or a timestamp as the row before it has")
    if stamp < stamp_before:
        raise BadTrace("its timestamp is before that of the session's row above")
    return stamp - stamp_before


def _time(*names: float | None) -> int | None:
    for value in names:
        if value is not None:
            return nanoseconds(value, NS_PER_MS)
    return None


def _one_of(value: int | None, alias: int | None, name: str) -> int:
    found = alias if value is None else value
    if found is None:
        raise BadTrace(f"{name} is missing")
    return found


def _is_mooncake(line: bytes) -> bool:
    names = fields_of(line).keys()
    texts = {"text_input", "messages", "payload"}
    return bool({"input_length", "input_tokens", *texts} & names) and "blocks" not in names


def _is_bailian(line: bytes) -> bool:
    return {"chat_id", "hash_ids"} <= fields_of(line).keys()


MOONCAKE = TraceFormat("mooncake", False, _is_mooncake, MooncakeReader)
BAILIAN = TraceFormat("bailian", False, _is_bailian, BailianReader)
