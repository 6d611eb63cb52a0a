"""Engine source: another engine's streams into the index, all ranks behind one endpoint.

Owns the `EngineStream` of one life of the engine. Such a stream has no snapshot, no account and no
heartbeat, so silence means nothing: LIVE says that somebody was heard, and that no batch since
`known_from` is missing. Never decodes and never sends: whoever calls asks vLLM's replay endpoint,
each time over a new socket, and answers for an engine that has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from radixroute.events.engines.engine_stream import ApplyTo, EngineAction, EngineStream
from radixroute.events.engines.foreign import ForeignBatch, ForeignReplayEnd
from radixroute.events.session.actions import StateChanged
from radixroute.events.session.states import Cause, StreamState
from radixroute.events.settings import EngineSettings
from radixroute.events.subscribe.stream_source import (
    SourceAction,
    StoredListener,
    WritableIndex,
    apply_events,
)
from radixroute.events.wire.control import Malformed
from radixroute.radix.ids import Holder
from radixroute.radix.keys.scope import Scope


@dataclass(frozen=True, slots=True)
class EngineReply:
    """A reply of vLLM's replay endpoint to the request of that number. None: it has none."""

    number: int
    item: ForeignBatch | ForeignReplayEnd | None


EngineItem: TypeAlias = ForeignBatch | EngineReply | Malformed


class EngineSource:
    """A `StreamSource` of what `vllm` decodes. `holders` are the engine's ranks, in order."""

    def __init__(
        self,
        holders: Sequence[Holder],
        scope: Scope,
        index: WritableIndex,
        listener: StoredListener | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self._holders = tuple(holders)
        self._index = index
        self._listener = listener
        ranks = range(len(holders)) if len(holders) > 1 else None
        self._stream = EngineStream(scope, ranks, settings)
        self._state = StreamState.SYNCING
        self._malformed = 0

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self._holders

    @property
    def state(self) -> StreamState:
        return self._state

    @property
    def applied_seq(self) -> int | None:
        return self._stream.next_seq - 1 if self._stream.next_seq else None

    @property
    def known_from(self) -> int | None:
        """The first batch of those known to the last; None before the first."""
        return self._stream.known_from if self._stream.next_seq else None

    @property
    def gaps(self) -> int:
        return self._stream.counters.gaps

    @property
    def rejected(self) -> int:
        return self._malformed + self._stream.counters.skipped_events

    @property
    def unknown_ranks(self) -> int:
        return self._stream.counters.unknown_ranks

    @property
    def drops(self) -> Mapping[str, int]:
        """Whatever was not believed, by reason: see `EngineStream.drops`."""
        return self._stream.drops()

    def begin(self, now_ns: int) -> list[SourceAction]:
        """Asks for all that the engine still keeps."""
        for holder in self._holders:
            self._index.join(holder)
        return self.tick(now_ns)

    def deliver(self, item: EngineItem, now_ns: int) -> list[SourceAction]:
        match item:
            case ForeignBatch():
                return self._carry_out(self._stream.receive(item, now_ns))
            case EngineReply():
                return self._carry_out(
                    self._stream.receive_replayed(item.number, item.item, now_ns)
                )
            case Malformed():
                self._malformed += 1
                return []

    def tick(self, now_ns: int) -> list[SourceAction]:
        """A tail may be lost and nothing names it: asks now and then."""
        return self._carry_out(self._stream.tick(now_ns))

    def end(self) -> None:
        for holder in self._holders:
            self._index.leave(holder)

    def check(self) -> None:
        self._stream.check()

    def _carry_out(self, actions: Sequence[EngineAction]) -> list[SourceAction]:
        """Changes the index; returns the rest."""
        wanted: list[SourceAction] = []
        for action in actions:
            if isinstance(action, ApplyTo):
                holder = self._holders[action.rank]
                apply_events(self._index, holder, action.events, self._listener)
            else:
                wanted.append(action)
        old, self._state = self._state, self._state_now()
        if self._state is not old:
            wanted.append(StateChanged(old, self._state, _cause(old, self._state)))
        return wanted

    def _state_now(self) -> StreamState:
        if not self._stream.is_begun:
            return StreamState.SYNCING
        return StreamState.LIVE if self._stream.is_whole else StreamState.GAP


def _cause(old: StreamState, new: StreamState) -> Cause:
    if new is StreamState.SYNCING:
        return Cause.RESTARTED
    if new is StreamState.GAP:
        return Cause.MISSING
    return Cause.BASED if old is StreamState.SYNCING else Cause.MENDED
