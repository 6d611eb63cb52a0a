"""Dynamo's request trace: what its frontend saw of each request, without any text.

Owns how dependencies are found, for the file has none. Of each trajectory (an agent's requests), a
request waits for those that had ended before it came and that no other such one followed; so
requests that ran side by side do so here. A trajectory begins after the last of its parent's
requests that had ended by then, and the parent's first request after its end waits for it. A delay
is the time that then passed, tools included. `input_sequence_hashes` name whole prefixes, one a
block, the partial last one too. Rows of other events (tools, payloads) are passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import NS_PER_MS, TraceDraft, nanoseconds
from radixroute.replay.traces.json_formats import decoded, fields_of
from radixroute.replay.traces.programs.graph import Node, drafted, session_kin
from radixroute.replay.traces.reader import TraceFormat
from radixroute.replay.traces.reading.wanted import Wanted

_SCHEMA = "dynamo.request.trace"  # and a version
_ENDED = "request_end"


class _Replay(msgspec.Struct):
    trace_block_size: int
    input_length: int
    input_sequence_hashes: list[int]


class _Request(msgspec.Struct):
    request_id: str
    output_tokens: int | None = None
    request_received_ms: int | float | None = None  # whole numbers stay exact to the nanosecond
    total_time_ms: int | float | None = None
    replay: _Replay | None = None


class _Context(msgspec.Struct):
    # The trajectory; where there is a `trajectory_id`, all trajectories of one run.
    session_id: str | None = None
    trajectory_id: str | None = None
    parent_trajectory_id: str | None = None
    parent_session_id: str | None = None


class _Event(msgspec.Struct):
    event_type: str
    event_time_unix_ms: int | float | None = None
    agent_context: _Context | None = None
    request: _Request | None = None


_EVENT = msgspec.json.Decoder(_Event)


class _Envelope(msgspec.Struct):
    event: _Event | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True)
class _Ended:
    """One request as it was served. Times in ns since 1970."""

    name: str
    tokens: tuple[int, int]
    blocks: list[int]
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class _Trajectory:
    """An agent's requests."""

    parent: str | None = None
    kin: set[str] = field(default_factory=set)
    requests: list[_Ended] = field(default_factory=list)  # by start when all are read


class DynamoReader:
    """`request_end` rows. Dependencies are found when all of them are read."""

    name = None

    def __init__(self, _first_line: bytes, wanted: Wanted) -> None:
        self._block_size = wanted.block_size
        self._names: set[str] = set()
        self._trajectories: dict[str, _Trajectory] = {}

    @property
    def draft(self) -> TraceDraft:
        if not self._trajectories:
            raise BadTrace("no request_end row is in it")
        for one in self._trajectories.values():
            one.requests.sort(key=lambda request: (request.start_ns, request.end_ns, request.name))
        return drafted(_nodes(self._trajectories), self._block_size or 1)

    def take(self, line: bytes) -> None:
        event: _Event = decoded(_ENVELOPE, line).event or decoded(_EVENT, line)
        if event.event_type != _ENDED:
            return
        ended = self._ended(event)
        context = event.agent_context or _Context()
        name = context.trajectory_id or context.session_id or f"of {ended.name} alone"
        trajectory = self._trajectories.get(name, _Trajectory())
        parent = context.parent_trajectory_id or context.parent_session_id
        if parent is not None and trajectory.parent not in (None, parent):
            raise BadTrace("its trajectory has another parent on a line above")
        trajectory.parent = parent or trajectory.parent
        trajectory.kin |= _kin(name, context)
        trajectory.requests.append(ended)
        self._trajectories[name] = trajectory
        self._names.add(ended.name)

    def _ended(self, event: _Event) -> _Ended:
        """Checked by itself: what is wrong shows on its line."""
        request = event.request
        if request is None or request.replay is None:
            raise BadTrace("a request_end row without request.replay: nothing says what it shared")
        if request.request_id in self._names:
            raise BadTrace("its request_id stands on a line above too")
        replay = request.replay
        size = self._block_size or replay.trace_block_size
        if replay.trace_block_size != size:
            raise BadTrace(f"blocks of {replay.trace_block_size} tokens in a trace of {size}")
        draft = TraceDraft(size)
        n_blocks = -(-replay.input_length // size)
        start_ns, end_ns = _span(event, request)
        ended = _Ended(
            request.request_id,
            (replay.input_length, request.output_tokens or 0),
            replay.input_sequence_hashes[:n_blocks],
            start_ns,
            end_ns,
        )
        draft.add(start_ns, ended.tokens, ended.blocks)
        self._block_size = size
        return ended


def _span(event: _Event, request: _Request) -> tuple[int, int]:
    """When it came and when it had ended; of two times that are there the third follows."""
    took, came, told = request.total_time_ms, request.request_received_ms, event.event_time_unix_ms
    if came is None:
        if told is None:
            raise BadTrace("neither request_received_ms nor event_time_unix_ms: when was it?")
        came = told - (took or 0.0)
    if took is None:
        took = max(0.0, (came if told is None else told) - came)
    start_ns = nanoseconds(came, NS_PER_MS)
    return start_ns, start_ns + nanoseconds(took, NS_PER_MS)


def _kin(name: str, context: _Context) -> set[str]:
    """All trajectories of one program have one of these in common with another."""
    named = {name, context.parent_trajectory_id, context.parent_session_id}
    found = {session_kin(f"of trajectory {one}") for one in named if one is not None}
    if context.trajectory_id is not None and context.session_id is not None:
        found.add(session_kin(f"of run {context.session_id}"))
    return found


def _nodes(trajectories: dict[str, _Trajectory]) -> list[Node]:
    waits: dict[str, dict[str, _Ended]] = {}  # by request: whom it waits for, by name
    for one in trajectories.values():
        for place, request in enumerate(one.requests):
            earlier = one.requests[:place]
            waits[request.name] = {found.name: found for found in _last_ended(earlier, request)}
    for one in trajectories.values():
        parent = None if one.parent is None else trajectories.get(one.parent)
        if parent is None or parent is one:
            continue
        first, last = one.requests[0], max(one.requests, key=lambda request: request.end_ns)
        before = [request for request in parent.requests if request.end_ns <= first.start_ns]
        spawned = max(before, key=lambda request: request.end_ns, default=None)
        if spawned is not None:
            waits[first.name][spawned.name] = spawned
        joins = next((each for each in parent.requests if each.start_ns >= last.end_ns), None)
        if joins is not None and joins is not spawned:
            waits[joins.name][last.name] = last
    return [
        _node(request, list(waits[request.name].values()), one.kin)
        for one in trajectories.values()
        for request in one.requests
    ]


def _last_ended(earlier: Sequence[_Ended], request: _Ended) -> list[_Ended]:
    """Of those that had ended when it came, those that nobody else of them came after."""
    ended = [one for one in earlier if one.end_ns <= request.start_ns]
    latest_ns = max((one.start_ns for one in ended), default=0)
    return [one for one in ended if one.end_ns >= latest_ns]


def _node(request: _Ended, waits: Sequence[_Ended], kin: set[str]) -> Node:
    last_ns = max((one.end_ns for one in waits), default=request.start_ns)
    return Node(
        request.name,
        request.tokens,
        request.blocks,
        request.start_ns,
        request.start_ns - last_ns,
        tuple(one.name for one in waits),
        tuple(sorted(kin)),
    )


def _is_dynamo(line: bytes) -> bool:
    fields: dict[str, Any] = fields_of(line)
    event = fields.get("event", fields)
    return isinstance(event, dict) and str(event.get("schema", "")).startswith(_SCHEMA)


DYNAMO = TraceFormat("dynamo", False, _is_dynamo, DynamoReader)
