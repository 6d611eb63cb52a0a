"""A fake engine's cache: which blocks it holds, how many copies, and the events that tell it."""

from collections import OrderedDict

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Keys


class Blocks:
    """Blocks by key, oldest use first. Told events wait in `told` until a step ends."""

    def __init__(self, capacity: int, *, stores_again: bool, removes_parents_first: bool) -> None:
        self._capacity = capacity
        self._stores_again = stores_again
        self._removes_parents_first = removes_parents_first
        self._copies: OrderedDict[int, int] = OrderedDict()
        self._parents: dict[int, int | None] = {}
        self.told: list[Event] = []

    def __len__(self) -> int:
        return len(self._copies)

    def leading(self, keys: Keys) -> int:
        """How many first blocks of a prompt it holds."""
        held = self._copies
        return next((n for n, key in enumerate(keys.tolist()) if key not in held), len(keys))

    def take(self, keys: Keys, n_cached: int) -> None:
        """A prompt was computed behind its first `n_cached` blocks."""
        listed = keys.tolist()
        for key in listed[:n_cached]:
            if key in self._copies:
                self._copies.move_to_end(key)
        start = n_cached
        while start < len(listed):
            is_new = listed[start] not in self._copies
            end = start + 1
            while end < len(listed) and (listed[end] not in self._copies) == is_new:
                end += 1
            if is_new or self._stores_again:
                self._store(listed[start - 1] if start else None, keys[start:end])
            start = end
        self._evict()

    def clear(self) -> None:
        self._copies.clear()
        self._parents.clear()
        self.told.append(CacheCleared())

    def take_told(self) -> tuple[Event, ...]:
        told, self.told = tuple(self.told), []
        return told

    def _store(self, parent: int | None, keys: Keys) -> None:
        self.told.append(BlocksStored(None if parent is None else BlockKey(parent), keys))
        for key in keys.tolist():
            self._copies[key] = self._copies.get(key, 0) + 1
            self._copies.move_to_end(key)
            self._parents[key] = parent
            parent = key

    def _evict(self) -> None:
        """A copy of each of the oldest blocks, till there is room; an eighth at once."""
        if len(self._copies) <= self._capacity:
            return
        gone = []
        for key in list(self._copies)[: max(1, self._capacity // 8)]:
            gone.append(key)
            self._copies[key] -= 1
            if not self._copies[key]:
                del self._copies[key], self._parents[key]
        if not self._removes_parents_first:
            gone.reverse()
        self.told.append(BlocksRemoved(np.array(gone, np.uint64)))
        self._evict()
