"""I own the router's belief about caches: which holder has which blocks.

Exact for every order of events, holes included: an overlap probes the keys of a prompt one by one
until no holder is left. Since a key names its whole prefix, no tree is walked. What a cache really
holds is its worker's business; I believe the events. Pure and synchronous: the router's event task
writes, its requests read between awaits, so there are no locks.

A holder that clears or leaves is masked at once; what it held is swept in small steps, at least
one block for each block stored, so that the dead never outgrow the living.
"""

from collections.abc import Iterable

import numpy as np

from radixroute.radix.contract import Overlaps, Run
from radixroute.radix.errors import BrokenInvariant, HolderExists, UnknownHolder
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier
from radixroute.radix.lane import Lane
from radixroute.radix.runs import Counts, ordered_runs


class PrefixIndex:
    """Implements `contract.Index` over dicts; lane sets are bit masks."""

    def __init__(self) -> None:
        self._lane_by_holder: dict[Holder, Lane] = {}
        self._mask_by_key: dict[int, int] = {}  # lanes that hold it in any tier, swept or not
        self._parent_by_key: dict[int, BlockKey | None] = {}  # as first told; same keys as above
        self._live = 0  # mask of the lanes of joined holders
        self._retired: list[Lane] = []
        self._free_bits: list[int] = []
        self._n_bits = 0
        self._holders: tuple[Holder, ...] = ()
        self._row_by_holder: dict[Holder, int] = {}

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self._holders

    @property
    def n_unswept(self) -> int:
        """Pairs of retired lanes that still take memory. O(retired lanes)."""
        return sum(len(held) for lane in self._retired for held in lane.copies)

    def join(self, holder: Holder) -> None:
        if holder in self._lane_by_holder:
            raise HolderExists(str(holder))
        self._lane_by_holder[holder] = self._new_lane()
        self._renumber()

    def leave(self, holder: Holder) -> None:
        """O(holders), however much it held."""
        self._retire(self._lane(holder))
        del self._lane_by_holder[holder]
        self._renumber()

    def clear(self, holder: Holder) -> None:
        """O(1), however much it held."""
        self._retire(self._lane(holder))
        self._lane_by_holder[holder] = self._new_lane()

    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None:
        lane = self._lane(holder)
        bit = lane.bit
        masks, parents = self._mask_by_key, self._parent_by_key
        above = parent
        for key in keys.tolist():
            lane.add(key, tier)
            masks[key] = masks.get(key, 0) | bit
            parents.setdefault(key, above)
            above = key
        if self._retired:
            self.sweep(len(keys))

    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int:
        lane = self._lane(holder)
        unknown = 0
        for key in keys.tolist():
            if not lane.take(key, tier):
                unknown += 1
            elif not lane.holds(key):
                self._unmask(key, lane.bit)
        return unknown

    def overlaps(self, keys: Keys) -> Overlaps:
        """O(longest run + holders), and O(run) more for each holder with slower tiers."""
        wanted = keys.tolist()
        run_by_bit = self._runs(wanted)
        blocks = np.zeros(len(self._holders), np.int32)
        tiers = np.zeros((len(self._holders), len(Tier)), np.int32)
        for row, lane in enumerate(self._lane_by_holder.values()):
            run_len = run_by_bit.get(lane.bit, 0)
            if run_len:
                blocks[row] = run_len
                tiers[row] = _by_fastest_tier(lane, wanted, run_len)
        blocks.flags.writeable = tiers.flags.writeable = False
        return Overlaps(self._holders, blocks, tiers, self._row_by_holder)

    def holds(self, holder: Holder, key: BlockKey) -> bool:
        return self._lane(holder).holds(key)

    def n_blocks(self, holder: Holder) -> int:
        return self._lane(holder).n_pairs

    def digest(self, holder: Holder) -> int:
        return self._lane(holder).digest

    def dump(self, holder: Holder) -> list[Run]:
        """O(blocks it holds)."""
        lane = self._lane(holder)
        counts_by_key: dict[int, Counts] = {
            key: lane.counts(key) for held in lane.copies for key in held
        }
        return ordered_runs(counts_by_key, self._parent_by_key)

    def restore(self, holder: Holder, runs: Iterable[Run]) -> None:
        self.clear(holder)
        for run in runs:
            self.store(holder, run.parent, run.keys, run.tier)

    def sweep(self, budget: int) -> int:
        """Reclaim up to `budget` blocks of retired lanes; returns how many. Call it when idle."""
        done = 0
        while self._retired and done < budget:
            lane = self._retired[-1]
            key = lane.pop()
            if key is None:
                self._free_bits.append(lane.bit)
                self._retired.pop()
            else:
                self._unmask(key, lane.bit)
                done += 1
        return done

    def check(self) -> None:
        expected: dict[int, int] = {}
        for lane in (*self._lane_by_holder.values(), *self._retired):
            for key in {key for held in lane.copies for key in held}:
                expected[key] = expected.get(key, 0) | lane.bit
        _must(expected == self._mask_by_key, "masks differ from the lanes")
        _must(self._parent_by_key.keys() == expected.keys(), "parents of other blocks")
        live = [lane.bit for lane in self._lane_by_holder.values()]
        _must(sum(live) == self._live, "the mask of live lanes is wrong")
        bits = [*live, *(lane.bit for lane in self._retired), *self._free_bits]
        _must(sorted(bits) == [1 << i for i in range(self._n_bits)], "a lane is lost or shared")
        _must(self._holders == tuple(self._lane_by_holder), "holders differ from their lanes")
        for lane in self._lane_by_holder.values():
            lane.check()

    def _runs(self, wanted: list[int]) -> dict[int, int]:
        """Length of the leading run by lane bit; lanes with none may be left out."""
        run_by_bit: dict[int, int] = {}
        alive = self._live
        masks = self._mask_by_key
        for i, key in enumerate(wanted):
            still = alive & masks.get(key, 0)
            if still != alive:
                _note(run_by_bit, alive ^ still, i)
                alive = still
                if not alive:
                    break
        _note(run_by_bit, alive, len(wanted))
        return run_by_bit

    def _lane(self, holder: Holder) -> Lane:
        lane = self._lane_by_holder.get(holder)
        if lane is None:
            raise UnknownHolder(str(holder))
        return lane

    def _new_lane(self) -> Lane:
        if not self._free_bits:
            self._free_bits.append(1 << self._n_bits)
            self._n_bits += 1
        lane = Lane(self._free_bits.pop())
        self._live |= lane.bit
        return lane

    def _retire(self, lane: Lane) -> None:
        self._live &= ~lane.bit
        self._retired.append(lane)

    def _unmask(self, key: int, bit: int) -> None:
        mask = self._mask_by_key[key] & ~bit
        if mask:
            self._mask_by_key[key] = mask
        else:
            del self._mask_by_key[key], self._parent_by_key[key]

    def _renumber(self) -> None:
        # New objects: earlier `Overlaps` keep theirs.
        self._holders = tuple(self._lane_by_holder)
        self._row_by_holder = {holder: row for row, holder in enumerate(self._holders)}


def _note(run_by_bit: dict[int, int], mask: int, run_len: int) -> None:
    while mask:
        bit = mask & -mask
        run_by_bit[bit] = run_len
        mask ^= bit


def _by_fastest_tier(lane: Lane, wanted: list[int], run_len: int) -> list[int]:
    counts = [0] * len(Tier)
    if lane.is_only_on_device:
        counts[Tier.DEVICE] = run_len
        return counts
    for key in wanted[:run_len]:
        counts[next(tier for tier in Tier if key in lane.copies[tier])] += 1
    return counts


def _must(holds: bool, claim: str) -> None:
    if not holds:
        raise BrokenInvariant(f"prefix index: {claim}")
