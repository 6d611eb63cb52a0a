"""Caches: what the event streams of a fleet have told, as changes in time.

Owns which cache has which unit (a column of `Blocks`), each stream's clock, whose stream counts,
and the changes that nobody has looked at yet. Pure: no clock.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.insight.misses.blocks import Blocks
from radixroute.insight.misses.offsets import Offset
from radixroute.radix.ids import Holder, Keys, Numbers, WorkerId
from radixroute.radix.index.layout import PACKED_CLEAR, PACKED_REMOVE, PACKED_STORE
from radixroute.replay.arrays import Cells
from radixroute.router.core.logs.tape import CacheChanged, CacheCleared, CacheCredited
from radixroute.router.messages.inputs import WorkerFacts

Bools: TypeAlias = NDArray[np.bool_]
_CLEAR: Final = np.array([PACKED_CLEAR, 0, 0], np.uint64)


class _Changes(NamedTuple):
    """Of one cache, in order of time. Shapes (changes,)."""

    ns: Numbers
    unit: int
    rows: Cells  # -1, where they are gone: all of it is
    is_there: Bools


class Caches:
    """Of one router's fleet."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        # What nobody has read yet, as it came.
        self._heard = defaultdict[Holder, list[CacheChanged | CacheCleared]](list)
        self._changes: list[_Changes] = []
        self._unit: dict[Holder, int] = {}
        self._offsets = defaultdict[Holder, Offset](Offset)
        self._ranks: dict[WorkerId, int] = {}  # of workers that are there
        self._believed: set[WorkerId] = set()
        self._uncredited: set[WorkerId] = set()
        self._untimed: set[WorkerId] = set()

    def joined(self, facts: WorkerFacts) -> None:
        self._ranks[facts.worker_id] = facts.ranks
        self._uncredited.add(facts.worker_id)
        if facts.is_cache_believed:
            self._believed.add(facts.worker_id)

    def lost(self, worker_id: WorkerId) -> None:
        self._ranks.pop(worker_id, None)
        self._believed.discard(worker_id)

    def credited(self, record: CacheCredited) -> None:
        worker_id = record.holder.worker
        if record.is_credited:
            self._uncredited.discard(worker_id)
        else:
            self._uncredited.add(worker_id)

    def why_unknown(self, worker_id: WorkerId) -> str:
        """Why nobody can say what was where when a request goes to this worker now; empty: they
        can."""
        if self._believed:
            return "believed"
        if self._uncredited & self._ranks.keys():
            return "stream"
        return "ranks" if self._ranks.get(worker_id, 1) != 1 else ""

    def is_timed(self, worker_id: WorkerId) -> bool:
        """Whether its stream says when things happened."""
        return worker_id not in self._untimed

    def unit_of(self, holder: Holder) -> int:
        unit = self._unit.get(holder)
        if unit is None:
            unit = self._unit[holder] = len(self._unit)
            if unit >= self._blocks.units:
                self._blocks.add_units(2 * self._blocks.units)
        return unit

    def told(self, record: CacheChanged | CacheCleared) -> None:
        """Kept as it is: there are several a request, and all of one cache are read at once."""
        self._heard[record.holder].append(record)

    def take(self, until_ns: int, safe_stamp: int) -> tuple[Numbers, Numbers, Cells, Bools]:
        """What changed before and was not taken, in order of time: times, units, rows, whether they
        are there then; a row of -1 clears its unit. `safe_stamp`: of `Blocks.rows_of`."""
        for holder, records in self._heard.items():
            self._changes.append(self._read(holder, records, safe_stamp))
        self._heard.clear()
        ready, later = list[_Changes](), list[_Changes]()
        for one in self._changes:
            n = int(np.searchsorted(one.ns, until_ns))
            if n:
                ready.append(_Changes(one.ns[:n], one.unit, one.rows[:n], one.is_there[:n]))
            if n < len(one.ns):
                later.append(_Changes(one.ns[n:], one.unit, one.rows[n:], one.is_there[n:]))
        self._changes = later
        ns = np.concatenate([np.zeros(0, np.int64), *(one.ns for one in ready)])
        order = np.argsort(ns, kind="stable")
        units = np.repeat([one.unit for one in ready], [len(one.ns) for one in ready])
        rows = np.concatenate([np.zeros(0, np.int32), *(one.rows for one in ready)])
        is_there = np.concatenate([np.zeros(0, np.bool_), *(one.is_there for one in ready)])
        return ns[order], units.astype(np.int64)[order], rows[order], is_there[order]

    def _read(
        self, holder: Holder, records: Sequence[CacheChanged | CacheCleared], safe_stamp: int
    ) -> _Changes:
        kernels, blocks, unit = _kernels(), self._blocks, self.unit_of(holder)
        batches = [_words_in(record) for record in records]
        words, ends = np.concatenate(batches), np.cumsum([len(one) for one in batches])
        keys, kinds = np.empty(len(words), np.uint64), np.empty(len(words), np.int8)
        of_batch = np.empty(len(words), np.int64)
        n = kernels.unpack(words, ends, keys, kinds, of_batch)
        rows, kinds = blocks.rows_of(keys[:n], safe_stamp), kinds[:n]
        rows[kinds == kernels.CLEARED] = -1
        chosen = np.empty(n, np.int64)
        kept = blocks.copies, blocks.stores, blocks.gone_at, blocks.gone_by
        chosen = chosen[: kernels.told(rows, kinds, unit, *kept, chosen)]
        ns = self._times(holder, records)[of_batch[chosen]]
        return _Changes(ns, unit, rows[chosen], kinds[chosen] == kernels.THERE)

    def _times(self, holder: Holder, records: Sequence[CacheChanged | CacheCleared]) -> Numbers:
        """When each happened, on the router's clock. Notes who does not say."""
        sent_s = np.array([one.ts if isinstance(one, CacheChanged) else 0.0 for one in records])
        if (sent_s > 0.0).any():
            self._untimed.discard(holder.worker)
        elif holder.worker not in self._uncredited:  # snapshots have no time, and need none
            self._untimed.add(holder.worker)
        heard_ns = np.array([one.now_ns for one in records], np.int64)
        return self._offsets[holder].of(np.rint(sent_s * 1e9).astype(np.int64), heard_ns)


def _words_in(record: CacheChanged | CacheCleared) -> Keys:
    if isinstance(record, CacheCleared):
        return _CLEAR
    events = record.events
    return events.words if isinstance(events, PackedEvents) else _words_of(events)


def _words_of(events: Sequence[Event]) -> Keys:
    """As if they had come packed, as far as this looks."""
    parts = list[Keys]()
    for event in events:
        if isinstance(event, BlocksStored | BlocksRemoved):
            kind = PACKED_STORE if isinstance(event, BlocksStored) else PACKED_REMOVE
            parts += [np.array([kind, 0, len(event.keys)], np.uint64), event.keys]
        else:
            parts.append(_CLEAR)
    return np.concatenate([np.zeros(0, np.uint64), *parts])


@cache
def _kernels() -> Any:
    """At first use: numba takes 0.5 s to import."""
    from radixroute.insight.misses import kernels

    return kernels
