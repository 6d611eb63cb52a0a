"""One foreign engine's endpoint, sans I/O: its batches in order, each rank's events to its holder.

vLLM and SGLang count batches per publisher process, so all ranks of an endpoint share one seq, and
nothing marks a new life but a seq that goes back. Owns the order, the one outstanding *replay* (all
that vLLM's replay endpoint sends for one request) and an `EngineAdapter` a rank. There is no
snapshot: what a replay cannot mend is forgotten, and what the engine says later is believed again:
too little, never too much; `known_from` says since when. `EngineSource` owns it.
Callers pass `now_ns`, carry out the actions, and send each replay over a new socket, so that an old
life's replies end with it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias

from radixroute.events.engines.adapter import AdapterCounters, EngineAdapter
from radixroute.events.engines.foreign import (
    MAIN_KINDS,
    ForeignBatch,
    ForeignCleared,
    ForeignEvent,
    ForeignReplayEnd,
    ForeignStored,
)
from radixroute.events.errors import LocalEventError
from radixroute.events.settings import EngineSettings
from radixroute.events.wire.records import Event
from radixroute.radix.keys.scope import Scope


@dataclass(frozen=True, slots=True)
class ApplyTo:
    """Change the index by these events of this rank."""

    rank: int
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class AskReplay:
    """Ask, over a new socket, for every kept batch from `from_seq` on; replies bear `number`."""

    number: int
    from_seq: int


EngineAction: TypeAlias = ApplyTo | AskReplay


@dataclass(slots=True)
class EngineCounters:
    """What happened to the endpoint: nothing is dropped without one of these."""

    applied: int = 0  # batches
    duplicates: int = 0  # batches a replay had brought before, or the other way round
    unknown_ranks: int = 0  # batches of a rank that this endpoint should not carry
    skipped_events: int = 0  # of an unknown tag or a wrong form
    late_replies: int = 0  # of a replay nobody waits for any more
    gaps: int = 0
    # Of the PUB socket alone, whether a replay mended them or not; and batches that it left out.
    live_gaps: int = 0
    live_missed: int = 0
    unmended: int = 0  # gaps after the beginning that nothing mended
    replays_requested: int = 0
    timeouts: int = 0  # replays that fell silent
    restarts: int = 0  # lives of the engine that were seen to end
    forgotten: int = 0  # times everything was forgotten because a gap could not be mended
    before_size: int = 0  # events that came before anything told the size of a block
    copies_disproved: int = 0  # times that more were counted than the pool has blocks


class EngineStream:
    """All ranks behind one endpoint. Every input returns the actions it leads to.

    `ranks` are those it may carry; a batch that names none is of the first. Without them it carries
    one, which is 0 in every action, whatever number the engine gives it. A `scope` of block size 0
    takes that of the first store of each life that must be right about it. `pool_blocks`: of a
    rank on its device, 0: not known.
    """

    def __init__(
        self,
        scope: Scope,
        ranks: Sequence[int] | None = None,
        settings: EngineSettings | None = None,
        *,
        pool_blocks: int = 0,
    ) -> None:
        if ranks is not None and not ranks:
            raise LocalEventError("an endpoint of no rank")
        settings = settings or EngineSettings()
        self._told, self._scope = scope, scope
        self._pool_blocks = pool_blocks
        self._keeps_one_copy = False
        self._ranks = ranks
        self._named: int | None = None  # what the engine calls its one rank
        self._adapters: dict[int, EngineAdapter] = {}
        self._timeout_ns = int(settings.replay_timeout_s * 1e9)
        self._probe_ns = int(settings.probe_interval_s * 1e9)
        self._max_waiting = settings.max_waiting_batches
        self._next_seq = self._known_from = 0
        self._is_proven = self._has_asked = False
        self._waiting: dict[int, ForeignBatch] = {}  # behind a gap
        self._last_live: int | None = None
        self._n_replays = 0
        self._is_replaying = False
        self._asked_for = -1  # the highest seq known when the replay was asked for
        self._moved_ns: int | None = None  # the last request or reply; None: never asked
        self._retired = Counter(asdict(AdapterCounters()))  # of adapters that are gone
        self.counters = EngineCounters()

    @property
    def next_seq(self) -> int:
        """The first batch not applied yet."""
        return self._next_seq

    @property
    def known_from(self) -> int:
        """All that this batch and the later ones say is applied, nothing of those before."""
        return self._known_from

    @property
    def is_begun(self) -> bool:
        """Somebody is there, and what is still kept of the beginning is here: what a replay
        brought, or nothing where none came."""
        return self._is_proven and self._has_asked

    @property
    def is_quiet(self) -> bool:
        """Begun, and nothing is asked for."""
        return self.is_begun and not self._is_replaying

    @property
    def is_whole(self) -> bool:
        """No batch that is known to exist is missing."""
        return not self._waiting

    def receive(self, batch: ForeignBatch, now_ns: int) -> list[EngineAction]:
        """A batch of the PUB socket, which keeps order and repeats nothing: less is a restart."""
        actions = []
        if self._last_live is not None and batch.seq <= self._last_live:
            actions = self.ended()
        elif self._last_live is not None and batch.seq > self._last_live + 1:
            self.counters.live_gaps += 1
            self.counters.live_missed += batch.seq - self._last_live - 1
        self._last_live = batch.seq
        self._is_proven = True
        return [*actions, *self._take(batch, now_ns)]

    def receive_replayed(
        self, number: int, item: ForeignBatch | ForeignReplayEnd | None, now_ns: int
    ) -> list[EngineAction]:
        """A reply to the replay of that number. They come oldest first. None: there is nobody to
        ask, which proves nothing."""
        if not self._is_replaying or number != self._n_replays:
            self.counters.late_replies += 1
            return []
        self._moved_ns = now_ns
        self._is_proven = self._is_proven or item is not None
        if item is None or isinstance(item, ForeignReplayEnd):
            return self._stop_replay(now_ns)
        actions = self._take(item, now_ns)
        # What comes before an oldest reply is kept nowhere.
        return [*actions, *(self._forget() if item.seq >= self._next_seq else [])]

    def ended(self) -> list[EngineAction]:
        """The engine's life is over, or may be: a seq went back, or the connection was lost."""
        self.counters.restarts += 1
        self._next_seq = self._known_from = 0
        self._last_live = self._named = None
        self._waiting.clear()
        self._is_replaying, self._moved_ns = False, None
        self._is_proven = self._has_asked = False
        actions = self._clear()
        if not self._told.block_size:  # the next life may have blocks of another size
            self._scope = self._told
            self._retire()
        return actions

    def keep_one_copy(self) -> list[EngineAction]:
        """Somebody has seen that not every store is a copy of its own: see `EngineAdapter`."""
        self._keeps_one_copy = True
        ours = [(rank, adapter.keep_one_copy()) for rank, adapter in self._adapters.items()]
        return [ApplyTo(rank, events) for rank, events in ours]

    def drops(self) -> dict[str, int]:
        """Whatever was not believed, by reason: events, or blocks where that is said of a reason.

        Those of `AdapterCounters` over all ranks and lives, and of the stream itself.
        """
        found = Counter(self._retired)
        for adapter in self._adapters.values():
            found.update(asdict(adapter.counters))
        ours = ("skipped_events", "unknown_ranks", "before_size", "forgotten")
        return {**found, **{name: getattr(self.counters, name) for name in ours}}

    def tick(self, now_ns: int) -> list[EngineAction]:
        """Call it each 100 ms or so, each second while `is_quiet`: begins, notices replays that
        fell silent, and lost tails."""
        silent_ns = None if self._moved_ns is None else now_ns - self._moved_ns
        if self._is_replaying:
            if silent_ns is not None and silent_ns < self._timeout_ns:
                return []
            self.counters.timeouts += 1
            return self._stop_replay(now_ns)
        return self._ask(now_ns) if silent_ns is None or silent_ns >= self._probe_ns else []

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        if self._waiting and min(self._waiting) <= self._next_seq:
            raise LocalEventError("a batch waits that is next, or past")
        if self._waiting and not self._is_replaying:
            raise LocalEventError("nobody was asked for what is missing")
        for adapter in self._adapters.values():
            adapter.check()

    def _take(self, batch: ForeignBatch, now_ns: int) -> list[EngineAction]:
        if batch.seq < self._next_seq or batch.seq in self._waiting:
            self.counters.duplicates += 1
            return []
        was_whole = not self._waiting
        self._waiting[batch.seq] = batch
        actions = self._drain()
        if len(self._waiting) > self._max_waiting:
            self._is_replaying = False
            actions += self._forget()
        self.counters.gaps += was_whole and bool(self._waiting)
        return [*actions, *self._ask_if_behind(now_ns)]

    def _drain(self) -> list[EngineAction]:
        actions: list[EngineAction] = []
        while (batch := self._waiting.pop(self._next_seq, None)) is not None:
            self._next_seq += 1
            actions += self._apply(batch)
        return actions

    def _apply(self, batch: ForeignBatch) -> list[EngineAction]:
        self.counters.skipped_events += batch.skipped
        rank = self._rank_of(batch)
        if rank is None:
            self.counters.unknown_ranks += 1
            return []
        self.counters.applied += 1
        return self._translate(rank, batch.events)

    def _rank_of(self, batch: ForeignBatch) -> int | None:
        if self._ranks is not None:
            rank = self._ranks[0] if batch.rank is None else batch.rank
            return rank if rank in self._ranks else None
        if self._named is None:
            self._named = batch.rank
        return 0 if batch.rank in (None, self._named) else None

    def _translate(self, rank: int, events: Sequence[ForeignEvent]) -> list[EngineAction]:
        adapter = self._adapter_of(rank, events)
        if adapter is None:
            self.counters.before_size += len(events)
            return []
        ours = adapter.translate_all(events)
        actions: list[EngineAction] = [ApplyTo(rank, ours)] if len(ours) else []
        if self._pool_blocks and adapter.copies_on_device > self._pool_blocks:
            self.counters.copies_disproved += 1
            actions += self.keep_one_copy()
        return actions

    def _adapter_of(self, rank: int, events: Sequence[ForeignEvent]) -> EngineAdapter | None:
        """None: nothing has told yet how large a block is."""
        if not self._scope.block_size:
            self._scope = replace(self._scope, block_size=_size_of(events))
        if rank not in self._adapters and self._scope.block_size:
            self._adapters[rank] = adapter = EngineAdapter(self._scope)
            if self._keeps_one_copy:
                adapter.keep_one_copy()
        return self._adapters.get(rank)

    def _retire(self) -> None:
        for adapter in self._adapters.values():
            self._retired.update(asdict(adapter.counters))
        self._adapters.clear()

    def _stop_replay(self, now_ns: int) -> list[EngineAction]:
        """What was known to miss when it was asked for, and still does, is kept nowhere."""
        self._is_replaying = False
        is_lost = bool(self._waiting) and self._next_seq <= self._asked_for
        actions = self._forget() if is_lost else []
        self._has_asked = True
        return [*actions, *self._ask_if_behind(now_ns)]

    def _forget(self) -> list[EngineAction]:
        """A gap stays: what was known may be gone, so it goes on with the oldest that waits."""
        self.counters.forgotten += 1
        self.counters.unmended += self._has_asked
        self._next_seq = self._known_from = min(self._waiting)
        return [*self._clear(), *self._drain()]

    def _clear(self) -> list[EngineAction]:
        cleared = (ForeignCleared(),)
        return [action for rank in self._adapters for action in self._translate(rank, cleared)]

    def _ask_if_behind(self, now_ns: int) -> list[EngineAction]:
        return self._ask(now_ns) if self._waiting and not self._is_replaying else []

    def _ask(self, now_ns: int) -> list[EngineAction]:
        self.counters.replays_requested += 1
        self._n_replays += 1
        self._is_replaying, self._moved_ns = True, now_ns
        self._asked_for = max(self._waiting, default=-1)
        return [AskReplay(self._n_replays, self._next_seq)]


def _size_of(events: Sequence[ForeignEvent]) -> int:
    """Tokens of a block, as a store tells it that can be no partial page; 0: none does.

    Several blocks that begin a prompt are whole ones, and of a group whose blocks are prefixes.
    """
    for one in events:
        if not isinstance(one, ForeignStored) or len(one.hashes) < 2:
            continue
        is_main = one.kind is None or one.kind in MAIN_KINDS
        if is_main and one.block_size and len(one.token_ids) == len(one.hashes) * one.block_size:
            return one.block_size
    return 0
