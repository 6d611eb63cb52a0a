"""Reference index: what `PrefixIndex` is checked against, slow and right by reading.

Written from the meaning of the events, sharing no code with any backend. For tests, and for
whoever wants to know what an index means; nothing in production calls it.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from radixroute.radix.digest import Account, mix
from radixroute.radix.errors import BrokenInvariant, HolderExists, UnknownHolder
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier
from radixroute.radix.index.contract import Overlaps, Run


class ReferenceIndex:
    """Implements `contract.Index`: a bag of (key, tier) for each holder."""

    def __init__(self) -> None:
        self._bags: dict[Holder, Counter[tuple[int, Tier]]] = {}
        self._parents: dict[int, BlockKey | None] = {}  # of all blocks ever stored
        self._reported: dict[Holder, list[tuple[int, int]]] = {}  # (copies, digest) of each event

    @property
    def holders(self) -> tuple[Holder, ...]:
        return tuple(self._bags)

    def join(self, holder: Holder) -> None:
        if holder in self._bags:
            raise HolderExists(str(holder))
        self._bags[holder] = Counter()
        self._reported[holder] = []

    def leave(self, holder: Holder) -> None:
        self._bag(holder)
        del self._bags[holder]

    def clear(self, holder: Holder) -> None:
        self._bag(holder).clear()
        self._reported[holder] = []

    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None:
        bag = self._bag(holder)
        self._reported[holder] += [(1, mix(key, tier)) for key in keys.tolist()]
        for key in keys.tolist():
            bag[key, tier] += 1
            self._parents.setdefault(key, parent)
            parent = key

    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int:
        bag = self._bag(holder)
        unknown = 0
        self._reported[holder] += [(-1, -mix(key, tier)) for key in keys.tolist()]
        for key in keys.tolist():
            if bag[key, tier] > 0:
                bag[key, tier] -= 1
            else:
                unknown += 1
        return unknown

    def overlaps(self, keys: Keys) -> Overlaps:
        tiers = np.zeros((len(self._bags), len(Tier)), np.int32)
        for row, bag in enumerate(self._bags.values()):
            for key in keys.tolist():
                fastest = [tier for tier in Tier if bag[key, tier] > 0]
                if not fastest:
                    break
                tiers[row, fastest[0]] += 1
        rows = {holder: row for row, holder in enumerate(self._bags)}
        blocks = tiers.sum(axis=1, dtype=np.int32)
        blocks.flags.writeable = tiers.flags.writeable = False
        return Overlaps(self.holders, blocks, rows, tiers)

    def holds(self, holder: Holder, key: BlockKey) -> bool:
        return any(self._bag(holder)[key, tier] > 0 for tier in Tier)

    def n_blocks(self, holder: Holder) -> int:
        return len(self._resident(holder))

    def account(self, holder: Holder) -> Account:
        self._bag(holder)
        reported = self._reported[holder]
        return Account(sum(n for n, _ in reported), sum(weight for _, weight in reported) % 2**64)

    def dump(self, holder: Holder) -> list[Run]:
        """Runs of one block."""
        waiting = list((+self._bag(holder)).elements())
        runs: list[Run] = []
        while waiting:
            keys = {key for key, _ in waiting}
            ready = [pair for pair in waiting if self._parents[pair[0]] not in keys]
            waiting = [pair for pair in waiting if self._parents[pair[0]] in keys]
            for key, tier in ready:
                runs.append(Run(self._parents[key], np.array([key], np.uint64), tier))
        return runs

    def restore(self, holder: Holder, runs: Iterable[Run]) -> None:
        self.clear(holder)
        for run in runs:
            self.store(holder, run.parent, run.keys, run.tier)

    def check(self) -> None:
        if any(count < 0 for bag in self._bags.values() for count in bag.values()):
            raise BrokenInvariant("reference index: fewer copies than none")

    def _bag(self, holder: Holder) -> Counter[tuple[int, Tier]]:
        if holder not in self._bags:
            raise UnknownHolder(str(holder))
        return self._bags[holder]

    def _resident(self, holder: Holder) -> list[tuple[int, Tier]]:
        return list(+self._bag(holder))
