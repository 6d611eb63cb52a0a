"""Agentic Mooncake rows: requests that name those they wait for, as AIPerf and Dynamo replay them.

    {"request_id": "a", "timestamp": 0, "input_length": 700, "output_length": 9, "hash_ids": [0, 1],
     "branches": ["b"]}
    {"request_id": "b", "wait_for": ["a"], "delay": 20, "tool_wait_ms": 900, "input_length": 1200,
     "output_length": 9, "hash_ids": [0, 1, 2]}

A row comes `delay` and `tool_wait_ms` (milliseconds) after the last of those it waits for ended;
one that waits for nobody at its `timestamp`. A session is one trajectory; `branches` are those that
it starts, and only say whose program they are. Rows stand in any order. Version 2, which begins
with a header, has dependencies on dispatches and clocks of its own: it is refused.
"""

from typing import Any

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import DEFAULTED, NS_PER_MS, TraceDraft, nanoseconds
from radixroute.replay.traces.json_formats import check_no_repeat, decoded, fields_of
from radixroute.replay.traces.programs.graph import Node, drafted, request_kin, session_kin
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading.times import unit_ns
from radixroute.replay.traces.reading.wanted import Wanted

_BLOCK, _UNIT = 512, "ms"
_SCHEMA = "dynamo.agentic_mooncake"
# Fields that no other format has; one of them is on the first row of what Dynamo's converter wrote.
_OWN_FIELDS = {"wait_for", "branches", "prefix_reset", "tool_wait_ms", "tool_events"}


class _Row(msgspec.Struct):
    request_id: str | int
    session_id: str | int | None = None
    timestamp: float | None = None
    created_time: float | None = None
    delay: float | None = None
    delay_ms: float | None = None
    tool_wait_ms: float | None = None
    input_length: int | None = None
    input_tokens: int | None = None
    output_length: int | None = None
    output_tokens: int | None = None
    hash_ids: list[int] | None = None
    wait_for: list[str | int] = []
    branches: list[str | int] = []
    # Known, and not for us: what `hash_ids` say already, and what is in `tool_wait_ms`.
    prefix_reset: Any = None
    tool_events: Any = None


_ROW = msgspec.json.Decoder(_Row)


class AgenticMooncakeReader:
    """Rows of version 1. Dependencies are looked up when all rows are read."""

    name = None

    def __init__(self, first_line: bytes, wanted: Wanted) -> None:
        if fields_of(first_line).get("schema") == _SCHEMA:
            raise BadTrace(
                "agentic Mooncake of version 2 is not read: convert it to rows with wait_for"
                " (version 1)"
            )
        self._block_size = wanted.block_size or _BLOCK
        self._unit_ns = unit_ns(wanted.time_unit or _UNIT)
        self._default_output = wanted.default_output
        self._n_defaulted = 0
        self._nodes: dict[str, Node] = {}

    @property
    def draft(self) -> TraceDraft:
        draft = drafted(list(self._nodes.values()), self._block_size)
        draft.repairs[DEFAULTED] += self._n_defaulted
        return draft

    def take(self, line: bytes) -> None:
        row: _Row = decoded(_ROW, line)
        name = str(row.request_id)
        if name in self._nodes:
            raise BadTrace("its request_id stands on a line above too")
        n_input = row.input_tokens if row.input_length is None else row.input_length
        n_output = row.output_tokens if row.output_length is None else row.output_length
        if n_input is None:
            raise BadTrace("input_length is missing")
        tokens = n_input, self._default_output if n_output is None else n_output
        if tokens[1] is None:
            raise BadTrace("output_length is missing: --default-output N gives such rows N tokens")
        check_no_repeat(row.hash_ids)
        node = Node(
            name,
            (n_input, tokens[1]),
            row.hash_ids,
            self._ns(row.timestamp, row.created_time),
            self._wait_ns(row),
            tuple(dict.fromkeys(map(str, row.wait_for))),
            _kin(row),
        )
        # What is wrong with the row alone shows on its line, not at the end of the file.
        TraceDraft(self._block_size).add(node.start_ns or 0, node.tokens, node.blocks)
        self._nodes[name] = node
        self._n_defaulted += n_output is None

    def _ns(self, *values: float | None) -> int | None:
        """The first that is given."""
        given = (one for one in values if one is not None)
        return next((nanoseconds(one, self._unit_ns) for one in given), None)

    def _wait_ns(self, row: _Row) -> int:
        """Fields that end in `_ms` say their unit."""
        waits = [
            0 if one is None else nanoseconds(one, NS_PER_MS)
            for one in (row.delay_ms, row.tool_wait_ms)
        ]
        return sum(waits[1:], waits[0] if row.delay is None else self._ns(row.delay) or 0)


def _kin(row: _Row) -> tuple[str, ...]:
    own = () if row.session_id is None else (session_kin(str(row.session_id)),)
    return (*own, *(request_kin(str(name)) for name in row.branches))


def _is_agentic(line: bytes) -> bool:
    fields = fields_of(line)
    is_row = "request_id" in fields and bool(_OWN_FIELDS & fields.keys())
    return is_row or fields.get("schema") == _SCHEMA


AGENTIC_MOONCAKE = TraceFormat(
    "agentic_mooncake", False, _is_agentic, AgenticMooncakeReader, unit=_UNIT
)
