"""Event link: the workers' event streams into the prefix index, in order.

Owns one `StreamSession` for each (worker, rank) and is the only writer of the index; it runs in the
router's loop. Only events of the epoch that `GetInfo` confirmed count. Tells the core what the
streams prove: life, load, stored blocks, and whether a worker's cache may be believed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from radixroute.events.session import actions as events
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.wire.control import Delivery, Endpoints, Malformed
from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Epoch,
    Event,
    Heartbeat,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action


class WritableIndex(Protocol):
    """What the streams change."""

    def join(self, holder: Holder) -> None: ...
    def leave(self, holder: Holder) -> None: ...
    def clear(self, holder: Holder) -> None: ...
    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None: ...
    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int: ...
    def n_blocks(self, holder: Holder) -> int: ...
    def account(self, holder: Holder) -> Account: ...
    @property
    def n_forgotten(self) -> int: ...
    @property
    def n_conflicts(self) -> int: ...
    @property
    def n_unknown_removals(self) -> int: ...
    def apply(self, holder: Holder, words: Keys) -> None: ...


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


class EventLink:
    """All event streams of one router."""

    def __init__(self, core: RouterCore, index: WritableIndex, transport: EventTransport) -> None:
        self._core = core
        self._index = index
        self._transport = transport
        self._sessions: dict[Holder, StreamSession] = {}

    def join(
        self, holders: Iterable[Holder], epoch: Epoch, endpoints: Endpoints, *, now_ns: int
    ) -> None:
        """A worker was accepted: its streams count from now on, and only in this epoch."""
        for holder in holders:
            if holder in self._sessions:
                self._leave(holder)
            self._index.join(holder)
            account = partial(self._index.account, holder)
            self._sessions[holder] = StreamSession(account, holder.rank)
            self._transport.add(holder, endpoints)
            self._perform(holder, self._sessions[holder].confirm_epoch(epoch, now_ns))

    def leave(self, worker_id: WorkerId) -> None:
        """Nothing this worker said is believed any more."""
        for holder in [h for h in self._sessions if h.worker == worker_id]:
            self._leave(holder)

    def receive(self, deliveries: Iterable[Delivery], now_ns: int) -> list[Action]:
        """What the transport decoded, in order."""
        actions: list[Action] = []
        for delivery in deliveries:
            session = self._sessions.get(delivery.holder)
            if session is None:
                self._core.count(Count.EVENTS_UNKNOWN_HOLDER)
                continue
            item = delivery.item
            if isinstance(item, Malformed):
                self._core.count(Count.EVENTS_MALFORMED)
            self._perform(delivery.holder, session.deliver(item, now_ns))
            if isinstance(item, Heartbeat) and _is_of(item, delivery.holder, session):
                actions += self._core.heartbeat(delivery.holder.worker, item.load, now_ns)
        return actions

    def tick(self, now_ns: int) -> None:
        for holder, session in self._sessions.items():
            self._perform(holder, session.tick(now_ns))
        index = self._index
        for name, n in (
            (Count.BLOCKS_FORGOTTEN, index.n_forgotten),
            (Count.PARENT_CONFLICTS, index.n_conflicts),
            (Count.REMOVALS_UNKNOWN, index.n_unknown_removals),
        ):
            self._core.count_to(name, n)

    def status(self, worker_id: WorkerId) -> StreamStatus | None:
        """None: it has no streams now."""
        mine = [(h, s) for h, s in self._sessions.items() if h.worker == worker_id]
        if not mine:
            return None
        worst = min((s for _, s in mine), key=lambda s: s.state.is_credited)
        applied = [-1 if s.applied_seq is None else s.applied_seq for _, s in mine]
        return StreamStatus(
            state=worst.state.value,
            applied_seq=min(applied) + 1,
            indexed_blocks=sum(self._index.n_blocks(h) for h, _ in mine),
            rejected_batches=sum(s.counters.malformed + s.counters.foreign for _, s in mine),
        )

    def gaps(self) -> int:
        """Times any stream missed a batch, healed or not, since it was joined."""
        return sum(session.counters.gaps for session in self._sessions.values())

    def _leave(self, holder: Holder) -> None:
        del self._sessions[holder]
        self._transport.remove(holder)
        self._index.leave(holder)
        self._core.cache_believed(holder.worker, False)

    def _perform(self, holder: Holder, wanted: list[events.Action]) -> None:
        for action in wanted:
            match action:
                case events.Apply():
                    self._apply(holder, action.events)
                case events.Reset():
                    self._index.clear(holder)
                case events.RequestResend():
                    self._transport.request_resend(holder, action.from_seq, action.to_seq)
                case events.RequestSnapshot():
                    self._transport.request_snapshot(holder)
                case events.StateChanged():
                    self._believe(holder.worker)

    def _believe(self, worker_id: WorkerId) -> None:
        states = [s.state for h, s in self._sessions.items() if h.worker == worker_id]
        self._core.cache_believed(worker_id, all(state.is_credited for state in states))

    def _apply(self, holder: Holder, applied: Sequence[Event]) -> None:
        if not isinstance(applied, PackedEvents):
            for event in applied:
                self._apply_one(holder, event)
            return
        self._index.apply(holder, applied.words)
        if self._core.expects_blocks(holder.worker):
            for keys in applied.stored():
                self._core.stored(holder.worker, keys)

    def _apply_one(self, holder: Holder, event: Event) -> None:
        match event:
            case BlocksStored():
                self._index.store(holder, event.parent, event.keys, event.tier)
                self._core.stored(holder.worker, event.keys)
            case BlocksRemoved():
                self._index.remove(holder, event.keys, event.tier)
            case CacheCleared():
                self._index.clear(holder)


def _is_of(beat: Heartbeat, holder: Holder, session: StreamSession) -> bool:
    """Ranks that share an address hear each other: a load is reported once, by its own."""
    return beat.epoch == session.epoch and beat.rank == holder.rank
