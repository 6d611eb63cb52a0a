"""Event link: the workers' event streams into the prefix index, in order.

Owns one `StreamSource` for each (worker, rank); through them it is the only writer of the index. It
runs in the router's loop. Only events of the epoch that `GetInfo` confirmed count. Tells the core
what the streams prove: life, load, stored blocks, and whether a worker's cache may be believed.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from radixroute.events.session.actions import RequestResend, RequestSnapshot, StateChanged
from radixroute.events.session.states import StreamState
from radixroute.events.subscribe.native_source import NativeSource
from radixroute.events.subscribe.stream_source import (
    LoadReported,
    SourceAction,
    WritableIndex,
)
from radixroute.events.wire.control import Delivery, Endpoints, Malformed
from radixroute.events.wire.records import Epoch, Event
from radixroute.radix.ids import Holder, WorkerId
from radixroute.router.core.logs.tape import CacheChanged, CacheCleared, CacheCredited, Tape
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action

_log = logging.getLogger(__name__)

# Blocks that one stream applies before the loop goes on with something else; some 3 ms.
TURN_COST = 16_384


class LinkedIndex(WritableIndex, Protocol):
    """What the streams change, and what is shown of it."""

    def n_blocks(self, holder: Holder) -> int: ...
    @property
    def n_forgotten(self) -> int: ...
    @property
    def n_conflicts(self) -> int: ...
    @property
    def n_uncounted(self) -> int: ...
    @property
    def n_unknown_removals(self) -> int: ...


class EventTransport(Protocol):
    """Where the items come from and requests go; `EventSubscriber` is one."""

    def add(self, holder: Holder, endpoints: Endpoints) -> None: ...
    def remove(self, holder: Holder) -> None: ...
    def request_resend(self, holder: Holder, from_seq: int, to_seq: int) -> None: ...
    def request_snapshot(self, holder: Holder) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A worker's streams for inspection; the worst of its ranks."""

    state: str
    applied_seq: int  # +1; 0: none
    indexed_blocks: int
    rejected_batches: int
    gaps: int  # times a batch was missing, healed or not


class TapedCaches:
    """What streams change, onto the router's tape. Implements `CacheWatcher`."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.now_ns = 0  # of the input that is dealt with

    def changed(self, holder: Holder, events: Sequence[Event], ts: float) -> None:
        self._tape.add(CacheChanged(holder, events, ts, self.now_ns))

    def cleared(self, holder: Holder) -> None:
        self._tape.add(CacheCleared(holder, self.now_ns))

    def credited(self, holder: Holder, *, is_credited: bool) -> None:
        self._tape.add(CacheCredited(holder, is_credited, self.now_ns))


class EventLink:
    """All event streams of one router."""

    def __init__(self, core: RouterCore, index: LinkedIndex, transport: EventTransport) -> None:
        self._core = core
        self._index = index
        self._transport = transport
        self._sources: dict[Holder, NativeSource] = {}
        self._of_worker: dict[WorkerId, dict[Holder, NativeSource]] = {}
        self._busy: dict[Holder, NativeSource] = {}  # in the order of their turns
        self._taped = None if core.tape is None else TapedCaches(core.tape)

    def join(
        self, holders: Iterable[Holder], epoch: Epoch, endpoints: Endpoints, *, now_ns: int
    ) -> None:
        """A worker was accepted: its streams count from now on, and only in this epoch."""
        if self._taped is not None:
            self._taped.now_ns = now_ns
        for holder in holders:
            if holder in self._sources:
                self._leave(holder)
            source = NativeSource(
                holder, epoch, self._index, listener=self._core, turn_cost=TURN_COST
            )
            source.tell(self._core.audit)
            if self._taped is not None:
                source.watch(self._taped)
            wanted = source.begin(now_ns)
            self._sources[holder] = source
            self._of_worker.setdefault(holder.worker, {})[holder] = source
            self._transport.add(holder, endpoints)
            self._perform(holder, wanted, now_ns)

    def leave(self, worker_id: WorkerId) -> None:
        """Nothing this worker said is believed any more."""
        for holder in list(self._of_worker.get(worker_id, ())):
            self._leave(holder)

    def receive(self, deliveries: Iterable[Delivery], now_ns: int) -> list[Action]:
        """What the transport decoded, in order."""
        actions: list[Action] = []
        for delivery in deliveries:
            source = self._sources.get(delivery.holder)
            if source is None:
                self._core.count(Count.EVENTS_UNKNOWN_HOLDER)
                continue
            if isinstance(delivery.item, Malformed):
                self._core.count(Count.EVENTS_MALFORMED)
            heard_ns = now_ns if delivery.heard_ns is None else min(delivery.heard_ns, now_ns)
            if self._taped is not None:
                self._taped.now_ns = now_ns
            wanted = source.deliver(delivery.item, heard_ns)
            if wanted:  # almost every batch changes the index and nothing else
                actions += self._perform(delivery.holder, wanted, now_ns, heard_ns)
            if source.is_busy:
                self._busy.setdefault(delivery.holder, source)
        if self._core.audit.has_turns:
            self._follow_audit(now_ns)
        return actions

    @property
    def is_quiet(self) -> bool:
        """Nothing is asked for or missing, and nobody is silent. O(streams)."""
        return not self._busy and all(
            source.state is StreamState.LIVE for source in self._sources.values()
        )

    @property
    def is_busy(self) -> bool:
        """Some stream has more to apply than fits in a turn: call `go_on` soon."""
        return bool(self._busy)

    def go_on(self, now_ns: int) -> list[Action]:
        """One turn of one busy stream; the others have theirs before it has another."""
        if not self._busy:
            return []
        if self._taped is not None:
            self._taped.now_ns = now_ns
        holder = next(iter(self._busy))
        source = self._busy.pop(holder)
        actions = self._perform(holder, source.go_on(now_ns), now_ns)
        if source.is_busy:
            self._busy[holder] = source
        return actions

    def tick(self, now_ns: int) -> None:
        if self._taped is not None:
            self._taped.now_ns = now_ns
        for holder, source in self._sources.items():
            self._perform(holder, source.tick(now_ns), now_ns)
        self._follow_audit(now_ns)
        index = self._index
        for name, n in (
            (Count.BLOCKS_FORGOTTEN, index.n_forgotten),
            (Count.PARENT_CONFLICTS, index.n_conflicts),
            (Count.COPIES_UNCOUNTED, index.n_uncounted),
            (Count.REMOVALS_UNKNOWN, index.n_unknown_removals),
        ):
            self._core.count_to(name, n)

    def status(self, worker_id: WorkerId) -> StreamStatus | None:
        """None: it has no streams now."""
        mine = self._of_worker.get(worker_id, {}).items()
        if not mine:
            return None
        worst = min((s for _, s in mine), key=lambda s: s.state.is_credited)
        applied = [-1 if s.applied_seq is None else s.applied_seq for _, s in mine]
        return StreamStatus(
            state=worst.state.value,
            applied_seq=min(applied) + 1,
            indexed_blocks=sum(self._index.n_blocks(h) for h, _ in mine),
            rejected_batches=sum(s.rejected for _, s in mine),
            gaps=sum(s.gaps for _, s in mine),
        )

    def gaps(self) -> int:
        """Times any stream missed a batch, healed or not, since it was joined."""
        return sum(source.gaps for source in self._sources.values())

    def _leave(self, holder: Holder) -> None:
        source = self._sources.pop(holder)
        self._busy.pop(holder, None)
        mine = self._of_worker[holder.worker]
        del mine[holder]
        if not mine:
            del self._of_worker[holder.worker]
        self._transport.remove(holder)
        source.end()
        self._core.cache_believed(holder.worker, False)

    def _perform(
        self,
        holder: Holder,
        wanted: Iterable[SourceAction],
        now_ns: int,
        heard_ns: int | None = None,
    ) -> list[Action]:
        actions: list[Action] = []
        for action in wanted:
            match action:
                case RequestResend():
                    self._transport.request_resend(holder, action.from_seq, action.to_seq)
                case RequestSnapshot():
                    self._transport.request_snapshot(holder)
                case StateChanged():
                    self._believe(holder.worker)
                case LoadReported():
                    worker_id, load = holder.worker, action.load
                    actions += self._core.heartbeat(worker_id, load, now_ns, heard_ns=heard_ns)
        return actions

    def _follow_audit(self, now_ns: int) -> None:
        """Whoever lost credit is asked for everything it holds, as the mend of what it was."""
        for turn in self._core.audit.take_turns():
            worker_id = turn.worker_id
            if turn.has_credit:
                _log.info("worker %s: its reports agree with its events again", worker_id)
                continue
            _log.warning("worker %s: its cache is not believed: %s", worker_id, turn.reason)
            for holder, source in self._of_worker.get(worker_id, {}).items():
                self._perform(holder, source.distrust(now_ns), now_ns)
                if source.is_busy:
                    self._busy.setdefault(holder, source)

    def _believe(self, worker_id: WorkerId) -> None:
        states = [source.state for source in self._of_worker.get(worker_id, {}).values()]
        self._core.cache_believed(worker_id, all(state.is_credited for state in states))
