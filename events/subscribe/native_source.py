"""Native source: one rank's native stream into the index.

Owns the `StreamSession` of one (worker, rank) in one epoch. Never decodes and never sends. Behind
an address that ranks share each rank has a source of its own and may be given everything: what is
another's is counted and changes nothing.
"""

from collections.abc import Iterable
from functools import partial

from radixroute.events.session.actions import Action, Apply, Reset
from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.settings import SessionSettings
from radixroute.events.subscribe.stream_source import (
    LoadReported,
    SourceAction,
    StoredListener,
    WritableIndex,
    apply_events,
)
from radixroute.events.wire.control import StreamItem
from radixroute.events.wire.records import Epoch, Heartbeat
from radixroute.radix.ids import Holder


class NativeSource:
    """A `StreamSource` of what `EventSubscriber` decodes. Only `epoch` counts."""

    def __init__(
        self,
        holder: Holder,
        epoch: Epoch,
        index: WritableIndex,
        listener: StoredListener | None = None,
        settings: SessionSettings | None = None,
    ) -> None:
        self._holder = holder
        self._epoch = epoch
        self._index = index
        self._listener = listener
        self._session = StreamSession(partial(index.account, holder), holder.rank, settings)

    @property
    def holders(self) -> tuple[Holder, ...]:
        return (self._holder,)

    @property
    def state(self) -> StreamState:
        return self._session.state

    @property
    def applied_seq(self) -> int | None:
        return self._session.applied_seq

    @property
    def gaps(self) -> int:
        return self._session.counters.gaps

    @property
    def rejected(self) -> int:
        counters = self._session.counters
        return counters.malformed + counters.foreign

    @property
    def unknown_ranks(self) -> int:
        return self._session.counters.wrong_rank

    def begin(self, now_ns: int) -> list[SourceAction]:
        """The epoch is confirmed: asks for a snapshot."""
        self._index.join(self._holder)
        return self._carry_out(self._session.confirm_epoch(self._epoch, now_ns))

    def deliver(self, item: StreamItem, now_ns: int) -> list[SourceAction]:
        wanted = self._carry_out(self._session.deliver(item, now_ns))
        if isinstance(item, Heartbeat) and self._is_own(item):
            wanted.append(LoadReported(item.load))
        return wanted

    def tick(self, now_ns: int) -> list[SourceAction]:
        return self._carry_out(self._session.tick(now_ns))

    def end(self) -> None:
        self._index.leave(self._holder)

    def check(self) -> None:
        self._session.check()

    def _carry_out(self, actions: Iterable[Action]) -> list[SourceAction]:
        """Changes the index; returns the rest."""
        wanted: list[SourceAction] = []
        for action in actions:
            match action:
                case Apply():
                    apply_events(self._index, self._holder, action.events, self._listener)
                case Reset():
                    self._index.clear(self._holder)
                case _:
                    wanted.append(action)
        return wanted

    def _is_own(self, beat: Heartbeat) -> bool:
        """Ranks that share an address hear each other: a load is reported once, by its own."""
        return beat.epoch == self._epoch and beat.rank == self._holder.rank
