"""Native source: one rank's native stream into the index.

Owns the `StreamSession` of one (worker, rank) in one epoch. Never decodes and never sends. Behind
an address that ranks share each rank has a source of its own and may be given everything: what is
another's is counted and changes nothing.

A snapshot of half a million blocks takes a second to apply, so a source with `turn_cost` does it in
turns: `go_on` while it `is_busy`. What arrives meanwhile waits behind it, loads apart.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial

from radixroute.events.session.actions import Action, Apply, Reset, StateChanged
from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.settings import SessionSettings
from radixroute.events.subscribe.stream_source import (
    AppliedListener,
    CacheWatcher,
    LoadReported,
    SourceAction,
    StoredListener,
    WritableIndex,
    apply_events,
)
from radixroute.events.wire.control import StreamItem
from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import CacheCleared, Epoch, Event, Heartbeat
from radixroute.radix.ids import Holder

# What a call of the index costs beside its blocks, in blocks.
_CALL_COST = 200
# Items that may wait behind a snapshot; a stream that loses some asks for them again.
_MAX_LATER = 4096
_LATER_A_TURN = 64


class NativeSource:
    """A `StreamSource` of what `EventSubscriber` decodes. Only `epoch` counts.

    `turn_cost`: blocks applied in one go, or a little more; 0: all of them.
    """

    def __init__(
        self,
        holder: Holder,
        epoch: Epoch,
        index: WritableIndex,
        listener: StoredListener | None = None,
        settings: SessionSettings | None = None,
        turn_cost: int = 0,
    ) -> None:
        self._journal: AppliedListener | None = None
        self._watcher: CacheWatcher | None = None
        self._is_based = False  # the journal knows which batches the index has
        self._turn_cost = turn_cost
        self._undone: deque[Action] = deque()
        self._later: deque[StreamItem] = deque()
        self._holder = holder
        self._epoch = epoch
        self._index = index
        self._listener = listener
        self._session = StreamSession(partial(index.account, holder), holder.rank, settings)
        self._state = self._session.state  # the session's, once the index is as it says

    def tell(self, journal: AppliedListener) -> None:
        """Who is told how far the index has followed. Before `begin`."""
        self._journal = journal

    def watch(self, watcher: CacheWatcher) -> None:
        """Who is told of all that it changes. Before `begin`."""
        self._watcher = watcher

    @property
    def holders(self) -> tuple[Holder, ...]:
        return (self._holder,)

    @property
    def state(self) -> StreamState:
        return self._state

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

    @property
    def is_busy(self) -> bool:
        """Something waits for `go_on`."""
        return bool(self._undone or self._later)

    def deliver(self, item: StreamItem, now_ns: int) -> list[SourceAction]:
        if not self.is_busy:
            wanted = self._carry_out(self._session.deliver(item, now_ns))
        else:
            wanted = []
            if len(self._later) < _MAX_LATER:
                self._later.append(item)
            else:
                self._session.counters.overflows += 1
        if isinstance(item, Heartbeat) and self._is_own(item):
            wanted.append(LoadReported(item.load))
        return wanted

    def go_on(self, now_ns: int) -> list[SourceAction]:
        """One more turn."""
        wanted = self._carry_out(())
        for _ in range(_LATER_A_TURN):
            if self._undone or not self._later:
                break
            wanted += self._carry_out(self._session.deliver(self._later.popleft(), now_ns))
        return wanted

    def tick(self, now_ns: int) -> list[SourceAction]:
        if self.is_busy:
            return []  # the silence is ours: proofs of life wait
        return self._carry_out(self._session.tick(now_ns))

    def distrust(self, now_ns: int) -> list[SourceAction]:
        """What the index has of it was shown to be wrong: asks for a snapshot."""
        return self._carry_out(self._session.distrust(now_ns))

    def end(self) -> None:
        if self._journal is not None:
            self._journal.left(self._holder)
        if self._watcher is not None:
            self._watcher.credited(self._holder, is_credited=False)
            self._watcher.cleared(self._holder)
        self._undone.clear()
        self._later.clear()
        self._index.leave(self._holder)

    def check(self) -> None:
        self._session.check()

    def _carry_out(self, actions: Iterable[Action]) -> list[SourceAction]:
        """Changes the index, for one turn; returns the rest up to there."""
        self._undone.extend(actions)
        wanted: list[SourceAction] = []
        left = self._turn_cost
        while self._undone and (left > 0 or not self._turn_cost):
            action = self._undone.popleft()
            match action:
                case Apply():
                    left -= self._apply(action, left)
                case Reset():
                    self._index.clear(self._holder)
                    if self._watcher is not None:
                        self._watcher.cleared(self._holder)
                case StateChanged():
                    self._state = action.new
                    self._tell_state()
                    wanted.append(action)
                case _:
                    wanted.append(action)
        return wanted

    def _apply(self, action: Apply, left: int) -> int:
        """Returns what it cost. What is over goes back to the front."""
        events, seq, ts = action.events, action.seq, action.ts
        if not self._turn_cost:
            self._change(events, ts)
            self._tell_applied(seq, events)
            return 0
        if isinstance(events, PackedEvents):  # of one engine step: never too much
            self._change(events, ts)
            self._tell_applied(seq, events)
            return _CALL_COST + len(events.words)
        cost, end = 0, 0
        while cost < left and end < len(events):
            cost, end = cost + _cost(events[end]), end + 1
        self._change(events[:end], ts)
        if end < len(events):
            self._tell_rebuilding()  # until it is whole the index stands between two batches
            self._undone.appendleft(Apply(events[end:], seq, ts))
        else:
            self._tell_applied(seq, events)
        return cost

    def _change(self, events: Sequence[Event], ts: float) -> None:
        apply_events(self._index, self._holder, events, self._listener)
        if self._watcher is not None:
            self._watcher.changed(self._holder, events, ts)

    def _tell_applied(self, seq: int | None, events: Sequence[Event]) -> None:
        if self._journal is None or seq is None:
            return
        if self._is_based:
            self._journal.applied(self._holder, seq, events)
        else:  # it was applied in parts
            self._tell_based(seq + 1)

    def _tell_state(self) -> None:
        if self._watcher is not None:
            self._watcher.credited(self._holder, is_credited=self._state.is_credited)
        if not self._state.is_credited:
            self._tell_rebuilding()
            return
        if not self._is_based:
            seqs = (a.seq for a in self._undone if isinstance(a, Apply) and a.seq is not None)
            last = self.applied_seq
            self._tell_based(next(seqs, 0 if last is None else last + 1))

    def _tell_based(self, next_seq: int) -> None:
        if self._journal is not None and self._state.is_credited:
            self._is_based = True
            self._journal.based(self._holder, next_seq)

    def _tell_rebuilding(self) -> None:
        if self._journal is not None and self._is_based:
            self._is_based = False
            self._journal.rebuilding(self._holder)

    def _is_own(self, beat: Heartbeat) -> bool:
        """Ranks that share an address hear each other: a load is reported once, by its own."""
        return beat.epoch == self._epoch and beat.rank == self._holder.rank


def _cost(event: Event) -> int:
    return _CALL_COST + (0 if isinstance(event, CacheCleared) else len(event.keys))
