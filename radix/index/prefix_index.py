"""Prefix index: the router's belief about caches, which holder has which blocks.

Exact for every order of events, holes included, as long as nothing had to be forgotten. Since a key
names its whole prefix, no tree is walked: an overlap probes a hash table where the sets of holders
can change. What a cache really holds is its worker's business; the index believes the events. Pure
and synchronous: the router's event task writes, its requests read between awaits, so no locks.

Memory is one arena whose size is the budget, taken from the system as it fills. When it is full it
forgets blocks that nobody stored again for long, from the ends of prompts inwards: overlaps may be
too short then, never too long, and `n_forgotten` counts why. A holder that clears or leaves is
masked at once; what it held is swept in small steps, with each store and whenever `sweep` is
called.
"""

import contextlib
import mmap
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from radixroute.radix.digest import DIGEST_MASK, Account
from radixroute.radix.errors import BrokenInvariant, HolderExists, LocalMisuse, UnknownHolder
from radixroute.radix.ids import BlockKey, Cells, Holder, Keys, Numbers, Tier
from radixroute.radix.index import layout as at
from radixroute.radix.index.contract import Overlaps, Run

DEFAULT_BYTES = 2 << 30  # about 40 million blocks that one worker each holds
MIN_BYTES = 1 << 17
_PAGE_BYTES = 8 * at.PAGE_WORDS
# Rows looked at for each block stored while something is to be swept: a pass ends before the live
# blocks have grown by half.
_SWEEP_A_BLOCK = 4
_NO_FLAGS = np.empty(0, np.uint8)
_NO_LANES, _NO_ROWS = np.empty(0, np.int64), np.empty((0, 4), np.int64)
_INT32 = np.dtype(np.int32)  # `np.zeros` looks a scalar type up each time
_UINT64, _ONE_BY_ONE = np.dtype(np.uint64), (8,)  # type and strides of keys as they should be
# Copies of a block by tier.
_Counts = tuple[int, int, int]


class PrefixIndex:
    """Implements `contract.Index` over flat arrays and compiled kernels.

    `max_bytes` holds hard, for everything that grows with blocks. Raises `LocalMisuse` below
    `MIN_BYTES` and for more than `layout.MAX_HOLDERS` holders.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < MIN_BYTES:
            raise LocalMisuse(f"an index of {max_bytes} bytes; give it {MIN_BYTES} or more")
        from radixroute.radix.index import kernels as index_kernels
        from radixroute.radix.index import matching  # here: numba takes 0.5 s to import
        from radixroute.radix.jit import entry_point

        self._kernels: Any = index_kernels
        self._any_match, self._match = matching.match, entry_point(matching.match)
        self._split_by_tier = matching.split_by_tier
        self._store = entry_point(index_kernels.store)
        self._remove = entry_point(index_kernels.remove)
        self._apply = entry_point(index_kernels.apply)
        n_pages = max_bytes // _PAGE_BYTES
        self._cells = _arena(n_pages * at.PAGE_WORDS)
        self._directory = np.zeros((1 << at.MAX_DEPTH) + n_pages, np.int64)
        self._lanes = np.zeros((at.MAX_LANES, at.LANE_LEN), np.int64)
        self._head = np.zeros(at.HEAD_LEN, np.int64)
        self._head[at.PAGES_FROM] = len(self._cells)
        self._head[at.OUT_ROWS :] = -1
        self._arrays = (self._cells, self._directory, self._lanes, self._head)
        self._kernels.start(*self._arrays)
        self._lane_by_holder: dict[Holder, int] = {}
        self._retired: list[int] = []  # lanes that wait for a pass
        self._swept: list[int] = []  # lanes the running pass takes away
        self._free: list[int] = []
        self._holders: tuple[Holder, ...] = ()
        self._row_by_holder: dict[Holder, int] = {}

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self._holders

    @property
    def n_unswept(self) -> int:
        """Entries of retired lanes that still take memory. O(1)."""
        return int(self._head[at.N_UNSWEPT])

    @property
    def n_forgotten(self) -> int:
        """(holder, block, tier) the byte budget has cost since the start, clears included."""
        return int(self._head[at.FORGOTTEN])

    @property
    def n_conflicts(self) -> int:
        """Times a block was told with another parent than before, or a prompt showed another."""
        return int(self._head[at.CONFLICTS])

    @property
    def n_uncounted(self) -> int:
        """Copies told of blocks with as many as are counted: held until their holder clears."""
        return int(self._head[at.N_UNCOUNTED])

    @property
    def n_unknown_removals(self) -> int:
        """Blocks removed that were not there, since the start."""
        return int(self._head[at.UNKNOWN_REMOVALS])

    @property
    def n_bytes(self) -> int:
        """Bytes of the arena in use: rows, table and entries."""
        head = self._head
        rows = at.ROW_WORDS * (int(head[at.N_ROWS]) + 1)
        pages = len(self._cells) - int(head[at.PAGES_FROM])
        return 8 * (rows + pages)

    def join(self, holder: Holder) -> None:
        if holder in self._lane_by_holder:
            raise HolderExists(str(holder))
        if len(self._lane_by_holder) == at.MAX_HOLDERS:
            raise LocalMisuse(f"an index takes {at.MAX_HOLDERS} holders; run a second router")
        self._lane_by_holder[holder] = self._new_lane()
        self._renumber()

    def leave(self, holder: Holder) -> None:
        """O(holders), however much it held."""
        self._retire(self._lane(holder))
        del self._lane_by_holder[holder]
        self._renumber()

    def clear(self, holder: Holder) -> None:
        """O(1), however much it held."""
        old = self._lane(holder)
        row = self._head[at.OUT_ROWS + old]
        self._retire(old)
        self._lane_by_holder[holder] = lane = self._new_lane()
        self._head[at.OUT_ROWS + lane] = row
        self._lane_by_row[row] = lane

    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None:
        lane = self._lane(holder)
        store = self._store if _are_plain(keys) else self._kernels.store
        store(*self._arrays, lane, parent or 0, keys, int(tier))
        if self._retired or self._swept:
            self.sweep(_SWEEP_A_BLOCK * len(keys))

    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int:
        lane = self._lane(holder)
        remove = self._remove if _are_plain(keys) else self._kernels.remove
        unknown: int = remove(*self._arrays, lane, keys, int(tier), _NO_FLAGS)
        self._head[at.UNKNOWN_REMOVALS] += unknown
        return unknown

    def apply(self, holder: Holder, words: Keys) -> None:
        """Events packed into words, as `layout` says, in one call; for whoever has many.

        Unknown removals are counted in `n_unknown_removals`.
        """
        at_word = 0
        apply = self._apply if _are_plain(words) else self._kernels.apply
        while at_word < len(words):
            lane = self._lane(holder)
            at_word = apply(*self._arrays, lane, words, at_word, _NO_LANES, _NO_ROWS, _NO_FLAGS)
            if at_word < len(words):
                self.clear(holder)
                at_word += at.PACKED_HEAD
        if self._retired or self._swept:
            self.sweep(_SWEEP_A_BLOCK * len(words))

    def apply_rows(self, rows: Numbers, words: Keys) -> None:
        """`apply` for many holders in one call, in order: whoever has many small batches.

        `rows`, shape (batches, 4): anything, place in `holders`, first and end of its `words`.
        Raises `LocalMisuse` at a clear.
        """
        if len(rows) == 0:
            return
        lanes = self._lane_by_row
        done = self._kernels.apply(*self._arrays, 0, words, 0, lanes, rows, _NO_FLAGS)
        if done < len(words):
            raise LocalMisuse("a cache was cleared: `apply` the batches of its holder one by one")
        if self._retired or self._swept:
            self.sweep(_SWEEP_A_BLOCK * len(words))

    def remove_known(self, holder: Holder, keys: Keys, tier: Tier) -> Keys:
        """Like `remove`, but unknown removals do not count in the account; returns the known."""
        is_known = np.zeros(len(keys), np.uint8)
        lane = self._lane(holder)
        if not self._kernels.remove(*self._arrays, lane, keys, int(tier), is_known):
            return keys
        return keys[is_known.astype(np.bool_)]

    def overlaps(self, keys: Keys) -> Overlaps:
        """O(log(blocks) * changes of the set of holders); O(run) for holders with holes.

        Notes which parents a prompt has shown to be right: O(run) once for new blocks.
        """
        cells, directory, lanes, head = self._arrays
        holders = self._holders
        blocks = np.zeros(len(holders), _INT32)
        tiers = None
        # `_are_plain`, written out: a call would take a tenth of what is saved.
        is_plain = keys.strides == _ONE_BY_ONE and keys.dtype is _UINT64
        match = self._match if is_plain else self._any_match
        if match(cells, directory, lanes, head, keys, blocks):
            tiers = self._split_by_tier(*self._arrays, keys, blocks)
            tiers.setflags(write=False)
        blocks.setflags(False)  # type: ignore[call-arg]  # the name would take as long as the call
        return Overlaps(holders, blocks, self._row_by_holder, tiers)

    def holds(self, holder: Holder, key: BlockKey) -> bool:
        return any(self._counts(self._lane(holder), key))

    def copies(self, holder: Holder, key: BlockKey) -> int:
        """In all tiers."""
        return sum(self._counts(self._lane(holder), key))

    def n_blocks(self, holder: Holder) -> int:
        lane = self._lane(holder)
        return int(self._lanes[lane, at.PAIRS : at.PAIRS + len(Tier)].sum())

    def forgotten_by(self, holder: Holder) -> int:
        """Copies of this holder the budget has cost since it joined or cleared."""
        return int(self._lanes[self._lane(holder), at.LANE_FORGOTTEN])

    def n_holes(self, holder: Holder) -> int:
        """Blocks it holds whose parent it does not hold, or whose parent is doubted. O(1)."""
        return int(self._lanes[self._lane(holder), at.HOLES])

    def account(self, holder: Holder) -> Account:
        fields = self._lanes[self._lane(holder)]
        return Account(int(fields[at.N_COPIES]), int(fields[at.DIGEST]) & DIGEST_MASK)

    def dump(self, holder: Holder) -> list[Run]:
        """O(all blocks of the index)."""
        keys, parents, words = self._kernels.collect(*self._arrays, self._lane(holder))
        copies = words & at.COPIES
        breaks = (parents[1:] != keys[:-1]) | (copies[1:] != copies[:-1])
        edges = [0, *(breaks.nonzero()[0] + 1).tolist(), len(keys)]
        keys.flags.writeable = False
        runs: list[Run] = []
        for start, end in pairwise(edges):
            if start == end:
                continue
            parent = int(parents[start])
            first = BlockKey(parent) if parent else None
            for tier, n in zip(Tier, _counts_of(int(copies[start])), strict=True):
                runs += [Run(first, keys[start:end], tier)] * n
        return runs

    def restore(self, holder: Holder, runs: Iterable[Run]) -> None:
        self.clear(holder)
        for run in runs:
            self.store(holder, run.parent, run.keys, run.tier)

    def sweep(self, budget: int) -> int:
        """Goes on with taking away what retired lanes held; looks at up to about `budget` rows.

        Returns how many it looked at: less than `budget` when there is nothing left to do.
        """
        done = 0
        while done < budget:
            if not self._swept:
                if not self._retired:
                    break
                self._swept, self._retired = self._retired, []
                self._lanes[self._swept, at.STATE] = at.SWEPT
                self._head[at.SWEEP_ROW] = 1
            done += max(1, self._kernels.sweep(*self._arrays, budget - done))
            if self._head[at.SWEEP_ROW] == 0:
                self._lanes[self._swept, at.STATE] = at.FREE_LANE
                self._free += self._swept
                self._swept = []
        return done

    def mean_probes(self, keys: Keys) -> float:
        """Buckets (cache lines) of the table read to find one of these keys, on average."""
        total: int = self._kernels.probes(*self._arrays, keys)
        return total / max(1, len(keys))

    def check(self) -> None:
        """Raises `BrokenInvariant` unless everything agrees with everything. Slow."""
        from radixroute.radix.index.check import check_arrays

        check_arrays(*self._arrays)
        live = sorted(self._lane_by_holder.values())
        lanes = [*live, *self._retired, *self._swept, *self._free]
        n_lanes = int(self._head[at.N_LANES])
        _must(sorted(lanes) == list(range(1, n_lanes + 1)), "a lane is lost or shared")
        out = [int(self._head[at.OUT_ROWS + lane]) for lane in self._lane_by_holder.values()]
        _must(out == list(range(len(self._holders))), "results go to wrong places")
        _must(self._holders == tuple(self._lane_by_holder), "holders differ from their lanes")

    def _counts(self, lane: int, key: BlockKey) -> _Counts:
        return _counts_of(int(self._kernels.word_of(*self._arrays, lane, np.uint64(key))))

    def _lane(self, holder: Holder) -> int:
        lane = self._lane_by_holder.get(holder)
        if lane is None:
            raise UnknownHolder(str(holder))
        return lane

    def _new_lane(self) -> int:
        if not self._free and self._head[at.N_LANES] == at.MAX_LANES - 1:
            self._finish_sweeping()
        if self._free:
            lane = self._free.pop()
        else:
            self._head[at.N_LANES] += 1
            lane = int(self._head[at.N_LANES])
        self._lanes[lane] = 0
        self._head[at.OUT_ROWS + lane] = -1
        self._lanes[lane, at.STATE] = at.LIVE
        return lane

    def _finish_sweeping(self) -> None:
        """The one unbounded step: 12,000 clears within one pass have used up the lanes."""
        while not self._free:
            self.sweep(1 << 20)

    def _retire(self, lane: int) -> None:
        fields, head = self._lanes[lane], self._head
        if fields[at.HOLES]:
            head[at.N_DIRTY] -= 1
        if fields[at.PAIRS + Tier.HOST] or fields[at.PAIRS + Tier.DISK]:
            head[at.N_SLOW] -= 1
        head[at.N_UNSWEPT] += fields[at.N_ENTRIES]
        fields[at.STATE] = at.RETIRED
        head[at.OUT_ROWS + lane] = -1
        self._retired.append(lane)

    def _renumber(self) -> None:
        # New objects: earlier `Overlaps` keep theirs.
        self._holders = tuple(self._lane_by_holder)
        self._row_by_holder = {holder: row for row, holder in enumerate(self._holders)}
        self._lane_by_row = lanes = np.fromiter(self._lane_by_holder.values(), np.int64)
        self._head[at.OUT_ROWS + lanes] = np.arange(len(lanes))


def _arena(n_words: int) -> Cells:
    """Zeroed words, taken from the system as they are touched, in large pages where it has any.

    Large pages make a probe of a table of gigabytes cheaper by a page walk. Private memory, because
    systems give shared memory no large pages unless they are told to.
    """
    memory = mmap.mmap(-1, 8 * n_words, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint64)


def _are_plain(keys: Keys) -> bool:
    """Whether a kernel takes these keys as they are. Of any others it has to find out what they
    are, or that it does not take them: as long as a match of a few blocks."""
    return keys.strides == _ONE_BY_ONE and keys.dtype is _UINT64


def _counts_of(word: int) -> _Counts:
    return (word >> 40 & 1023, word >> 32 & 255, word >> 24 & 255)


def _must(holds: bool, claim: str) -> None:
    if not holds:
        raise BrokenInvariant(f"prefix index: {claim}")
