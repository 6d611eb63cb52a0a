"""What a foreign engine's hashes stand for: (group, engine hash) -> block, with copies by tier.

Owned by one `EngineAdapter`. Blocks are numbers into arrays and hashes lead to them through one
dict a group, so that a run of new blocks is a few array operations: about 110 bytes a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radixroute.events.errors import LocalEventError
from radixroute.events.foreign import EngineHash
from radixroute.radix.ids import BlockKey, Keys, Tier
from radixroute.radix.scope import Scope

_FIRST_CAPACITY = 1024
Group = int | None


@dataclass(frozen=True, slots=True)
class Named:
    """One block, as it is remembered."""

    key: BlockKey
    parent: BlockKey | None
    scope: Scope


class NameTable:
    """Blocks held in at least one tier, and nothing else."""

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return sum(len(names) for names in self._places.values())

    def clear(self) -> None:
        """The engine emptied its cache."""
        self._places: dict[Group, dict[EngineHash, int]] = {}
        self._scopes: list[Scope] = []
        self._scope_numbers: dict[Scope, int] = {}
        self._last_scope: tuple[Scope | None, int] = (None, 0)
        self._free: list[int] = []
        self._n_used = 0  # places ever used
        self._keys = np.zeros(_FIRST_CAPACITY, np.uint64)
        self._parents = np.zeros(_FIRST_CAPACITY, np.uint64)  # 0: begins a prompt
        self._scope_of = np.zeros(_FIRST_CAPACITY, np.int32)
        self._copies = np.zeros((_FIRST_CAPACITY, len(Tier)), np.int32)

    def find(self, group: Group, name: EngineHash) -> Named | None:
        """None: not held, or stored before we listened."""
        place = self._places.get(group, {}).get(name)
        if place is None:
            return None
        parent = int(self._parents[place])
        return Named(
            BlockKey(int(self._keys[place])),
            BlockKey(parent) if parent else None,
            self._scopes[self._scope_of[place]],
        )

    def store(
        self,
        group: Group,
        names: Sequence[EngineHash],
        parent: BlockKey | None,
        keys: Keys,
        scope: Scope,
        tier: Tier,
    ) -> bool:
        """One copy more of each of a chain; False, and nothing done, if a name means another."""
        places = self._places.setdefault(group, {})
        if places.keys().isdisjoint(names):
            self._store_new(places, names, parent, keys, scope, tier)
            return True
        known = [places.get(name) for name in names]
        key_list = keys.tolist()
        for place, key in zip(known, key_list, strict=True):
            if place is not None and int(self._keys[place]) != key:
                return False
        above = parent
        for number, place in enumerate(known):
            key = BlockKey(key_list[number])
            if place is None:
                one = slice(number, number + 1)
                self._store_new(places, names[one], above, keys[one], scope, tier)
            else:
                self._copies[place, tier] += 1
            above = key
        return True

    def add_copy(self, group: Group, name: EngineHash, tier: Tier) -> Named | None:
        """A known block reached a tier; None if it is not known."""
        block = self.find(group, name)
        if block is not None:
            self._copies[self._places[group][name], tier] += 1
        return block

    def remove(self, group: Group, names: Sequence[EngineHash], tier: Tier) -> list[int]:
        """One copy less of each that has one there; their keys."""
        places = self._places.get(group, {})
        keys = []
        for name in names:
            place = places.get(name)
            if place is None or self._copies[place, tier] == 0:
                continue
            keys.append(int(self._keys[place]))
            self._copies[place, tier] -= 1
            if not self._copies[place].any():
                del places[name]
                self._free.append(place)
        return keys

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        used = [place for names in self._places.values() for place in names.values()]
        if len(set(used) | set(self._free)) != len(used) + len(self._free):
            raise LocalEventError("two names share a place")
        if len(used) + len(self._free) != self._n_used:
            raise LocalEventError("a place is lost")
        if used and (self._copies[used].min() < 0 or not self._copies[used].any(axis=1).all()):
            raise LocalEventError("a block is remembered that is held nowhere")

    def _store_new(
        self,
        places: dict[EngineHash, int],
        names: Sequence[EngineHash],
        parent: BlockKey | None,
        keys: Keys,
        scope: Scope,
        tier: Tier,
    ) -> None:
        n = len(names)
        if n == 0:
            return
        at: list[int] | slice
        if len(self._free) >= n:
            at = [self._free.pop() for _ in range(n)]
            places.update(zip(names, at, strict=True))
        else:
            self._grow(n)
            first, self._n_used = self._n_used, self._n_used + n
            at = slice(first, first + n)
            places.update(zip(names, range(first, first + n), strict=True))
        parents = np.empty(n, np.uint64)
        parents[0] = parent or 0
        parents[1:] = keys[:-1]
        self._keys[at], self._parents[at] = keys, parents
        self._scope_of[at] = self._scope_number(scope)
        self._copies[at] = 0
        self._copies[at, tier] = 1

    def _scope_number(self, scope: Scope) -> int:
        if scope is self._last_scope[0]:  # hashing one takes longer than all else here
            return self._last_scope[1]
        number = self._scope_numbers.setdefault(scope, len(self._scopes))
        if number == len(self._scopes):
            self._scopes.append(scope)
        self._last_scope = scope, number
        return number

    def _grow(self, n: int) -> None:
        capacity = len(self._keys)
        if self._n_used + n <= capacity:
            return
        wanted = max(2 * capacity, self._n_used + n)
        self._keys = np.resize(self._keys, wanted)
        self._parents = np.resize(self._parents, wanted)
        self._scope_of = np.resize(self._scope_of, wanted)
        self._copies = np.resize(self._copies, (wanted, len(Tier)))
