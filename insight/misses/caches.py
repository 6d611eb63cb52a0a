"""Caches: what the event streams of a fleet have told, as changes in time.

Owns which cache has which unit (a column of `Blocks`), each stream's clock, whose stream counts,
and the changes that nobody has looked at yet. Pure: no clock.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.events.wire.records import CacheCleared as AllCleared
from radixroute.insight.misses.blocks import Blocks
from radixroute.insight.misses.offsets import Offset
from radixroute.radix.ids import Holder, Keys, Numbers, WorkerId
from radixroute.replay.arrays import Cells
from radixroute.router.core.logs.tape import CacheChanged, CacheCleared, CacheCredited
from radixroute.router.messages.inputs import WorkerFacts

Bools: TypeAlias = NDArray[np.bool_]


class _Change(msgspec.Struct, eq=False):
    """Of one cache at one time; no rows: it is cleared."""

    ns: int
    unit: int
    rows: Cells
    is_there: Bools


class Caches:
    """Of one router's fleet."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._changes: list[_Change] = []
        self._unit: dict[Holder, int] = {}
        self._offsets: dict[Holder, Offset] = {}
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

    def changed(self, record: CacheChanged, safe_stamp: int) -> None:
        """`safe_stamp`: of `Blocks.rows_of`."""
        found = _unpacked(record.events)
        if found is None:  # all went in between: what came before does not matter
            self._clear(record.holder, record.now_ns)
            found = _of_records(_after_clear(record.events))
        keys, is_stored = found
        ns = self._time_of(record)
        unit, blocks = self.unit_of(record.holder), self._blocks
        rows = blocks.rows_of(keys, safe_stamp)
        changed, is_there = np.empty(len(rows), np.int32), np.empty(len(rows), np.bool_)
        n = _kernels().told(
            rows,
            is_stored,
            unit,
            blocks.copies,
            blocks.stores,
            blocks.gone_at,
            blocks.gone_by,
            changed,
            is_there,
        )
        if n:
            self._changes.append(_Change(ns, unit, changed[:n], is_there[:n]))

    def _time_of(self, record: CacheChanged) -> int:
        """On the router's clock; never before what its stream told before."""
        offset = self._offsets.get(record.holder)
        if offset is None:
            offset = self._offsets[record.holder] = Offset()
        worker_id = record.holder.worker
        if record.ts <= 0.0:
            if worker_id not in self._uncredited:  # snapshots have no time, and need none
                self._untimed.add(worker_id)
            return offset.at_least(record.now_ns)
        self._untimed.discard(worker_id)
        return offset.of(round(record.ts * 1e9), record.now_ns)

    def cleared(self, record: CacheCleared) -> None:
        self._clear(record.holder, record.now_ns)

    def _clear(self, holder: Holder, now_ns: int) -> None:
        unit = self._unit.get(holder)
        if unit is None:
            return
        self._blocks.clear(unit)
        offset = self._offsets.get(holder)
        ns = now_ns if offset is None else offset.at_least(now_ns)
        nothing = np.full(1, -1, np.int32), np.zeros(1, np.bool_)
        self._changes.append(_Change(ns, unit, *nothing))

    def _unit_of(self, holder: Holder) -> int:
        unit = self._unit.get(holder)
        if unit is None:
            unit = self._unit[holder] = len(self._unit)
            if unit >= self._blocks.units:
                self._blocks.add_units(2 * self._blocks.units)
        return unit

    def take(self, until_ns: int) -> tuple[Numbers, Numbers, Cells, Bools]:
        """Of before, in order of time: times, units, rows, whether they are there then."""
        ready = [change for change in self._changes if change.ns < until_ns]
        self._changes = [change for change in self._changes if change.ns >= until_ns]
        ready.sort(key=lambda change: change.ns)
        lengths = [len(change.rows) for change in ready]
        return (
            np.repeat(np.array([change.ns for change in ready], np.int64), lengths),
            np.repeat(np.array([change.unit for change in ready], np.int64), lengths),
            np.concatenate([np.zeros(0, np.int32), *(change.rows for change in ready)]),
            np.concatenate([np.zeros(0, np.bool_), *(change.is_there for change in ready)]),
        )


def _unpacked(events: Sequence[Event]) -> tuple[Keys, Bools] | None:
    """Keys, and whether each was stored. None: one of the events clears all."""
    if isinstance(events, PackedEvents):
        words = events.words
        keys, is_stored = np.empty(len(words), np.uint64), np.empty(len(words), np.bool_)
        n = _kernels().unpack(words, keys, is_stored)
        return None if n < 0 else (keys[:n], is_stored[:n])
    if any(isinstance(event, AllCleared) for event in events):
        return None
    return _of_records(events)


def _after_clear(events: Sequence[Event]) -> Sequence[Event]:
    """Those behind the last event that clears all."""
    listed = tuple(events)
    last = max(n for n, event in enumerate(listed) if isinstance(event, AllCleared))
    return listed[last + 1 :]


def _of_records(events: Sequence[Event]) -> tuple[Keys, Bools]:
    """Of events that store and remove."""
    keys, is_stored = list[Keys](), list[Bools]()
    for event in events:
        if isinstance(event, BlocksStored | BlocksRemoved):
            keys.append(event.keys)
            is_stored.append(np.full(len(event.keys), isinstance(event, BlocksStored)))
    return (
        np.concatenate([np.zeros(0, np.uint64), *keys]),
        np.concatenate([np.zeros(0, np.bool_), *is_stored]),
    )


@cache
def _kernels() -> Any:
    """At first use: numba takes 0.5 s to import."""
    from radixroute.insight.misses import kernels

    return kernels
