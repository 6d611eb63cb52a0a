"""A fake engine's cache: which blocks it holds, how many copies, and the events that tell it.

It keeps blocks apart by what they are, their scope included, and tells of them by their keys.
"""

from collections import OrderedDict
from itertools import islice
from typing import TypeAlias

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope

# What a block is: its key, and its scope if it has one: by a bug two scopes may have one key.
Name: TypeAlias = int | tuple[RequestScope, int]


def names_of(keys: Keys, scope: RequestScope) -> list[Name]:
    """Of a prompt's blocks."""
    listed: list[int] = keys.tolist()
    return [*listed] if scope == UNSCOPED else [(scope, key) for key in listed]


def _key(name: Name) -> int:
    return name if isinstance(name, int) else name[1]


class Blocks:
    """Blocks by key, oldest use first. Told events wait in `told` until a step ends."""

    def __init__(self, capacity: int, *, stores_again: bool, removes_parents_first: bool) -> None:
        self._capacity = capacity
        self._stores_again = stores_again
        self._removes_parents_first = removes_parents_first
        self._copies: OrderedDict[Name, int] = OrderedDict()
        self.told: list[Event] = []

    def __len__(self) -> int:
        return len(self._copies)

    def leading(self, names: list[Name]) -> int:
        """How many first blocks of a prompt it holds."""
        held = self._copies
        return next((n for n, name in enumerate(names) if name not in held), len(names))

    def take(self, names: list[Name], keys: Keys, n_cached: int) -> None:
        """A prompt was computed behind its first `n_cached` blocks."""
        for name in names[:n_cached]:
            if name in self._copies:
                self._copies.move_to_end(name)
        start = n_cached
        while start < len(names):
            is_new = names[start] not in self._copies
            end = start + 1
            while end < len(names) and (names[end] not in self._copies) == is_new:
                end += 1
            if is_new or self._stores_again:
                parent = BlockKey(_key(names[start - 1])) if start else None
                self._store(parent, names[start:end], keys[start:end])
            start = end
        self._evict()

    def hoard(self, keys: Keys, copies: int) -> None:
        """So many copies of blocks that begin prompts."""
        for _ in range(copies):
            self._store(None, keys.tolist(), keys)

    def shed(self, keys: Keys, copies: int) -> None:
        """So many copies of them are gone."""
        for key in keys.tolist():
            self._copies[key] -= copies
        self.told.append(BlocksRemoved(np.repeat(keys, copies)))

    def clear(self) -> None:
        self._copies.clear()
        self.told.append(CacheCleared())

    def take_told(self) -> tuple[Event, ...]:
        told, self.told = tuple(self.told), []
        return told

    def _store(self, parent: BlockKey | None, names: list[Name], keys: Keys) -> None:
        self.told.append(BlocksStored(parent, keys))
        for name in names:
            self._copies[name] = self._copies.get(name, 0) + 1
            self._copies.move_to_end(name)

    def _evict(self) -> None:
        """A copy of each of the oldest blocks, till there is room; an eighth at once."""
        if len(self._copies) <= self._capacity:
            return
        gone = []
        for name in list(islice(self._copies, max(1, self._capacity // 8))):
            gone.append(_key(name))
            self._copies[name] -= 1
            if not self._copies[name]:
                del self._copies[name]
        if not self._removes_parents_first:
            gone.reverse()
        self.told.append(BlocksRemoved(np.array(gone, np.uint64)))
        self._evict()
