"""Blocks: what is kept of every block that a cache or a prompt had lately, a row each.

Owns the rows, as many as fit a byte budget, and which key has which. When no row is free the
blocks that were touched longest ago, that no cache holds and no request is about to compute, are
forgotten: of these nobody can say any more that they were ever there.
"""

from typing import Final

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys
from radixroute.replay.arrays import Cells

LEAST_ROWS: Final = 1 << 10
_FORGET: Final = 8  # an eighth of the rows at once
_WORD_BITS: Final = 64


class Blocks:
    """Of one router's fleet. All arrays have a row for each block; -1 is none's."""

    def __init__(self, max_bytes: int, units: int = 8) -> None:
        """`units`: caches there is room for at first."""
        from radixroute.insight.misses import kernels  # here: numba takes 0.5 s to import

        self._kernels = kernels
        self._max_bytes = max_bytes
        self.n_forgotten = 0  # blocks, ever
        self.n_without_room = 0  # keys that found no row, ever: too much is held
        self._make(units)

    def _make(self, units: int) -> None:
        """Empty."""
        words = (units + _WORD_BITS - 1) // _WORD_BITS
        a_row = 8 + 8 + 8 + 2 + 1 + 4 + 2 * 4 + units * 5 + words * 16
        n = max(LEAST_ROWS, self._max_bytes // a_row)
        self.units = units
        self.held = np.zeros((n, words), np.uint64)
        self.coming = np.zeros((n, words), np.uint64)
        self.n_coming = np.zeros((n, units), np.int32)
        self.is_seen = np.zeros(n, np.bool_)
        self.copies = np.zeros((n, units), np.uint8)
        self.gone_at = np.zeros(n, np.int64)
        self.gone_by = np.full(n, -1, np.int16)
        self.stores = np.zeros(units, np.int64)
        self._keys = np.zeros(n, np.uint64)
        self._stamps = np.zeros(n, np.int64)  # 0: nobody's
        self._free = np.arange(n - 1, -1, -1, dtype=np.int32)
        self._counts = np.zeros(self._kernels.COUNTS_LEN, np.int64)
        self._counts[self._kernels.N_FREE] = n
        self._table = np.full(1 << (2 * n - 1).bit_length(), -1, np.int32)

    def __len__(self) -> int:
        return len(self._keys) - int(self._counts[self._kernels.N_FREE])

    @property
    def n_bytes(self) -> int:
        arrays = (self.held, self.coming, self.n_coming, self.is_seen, self.copies, self.gone_at)
        more = (self.gone_by, self._keys, self._stamps, self._free, self._table)
        return sum(int(array.nbytes) for array in (*arrays, *more))

    @property
    def stamp(self) -> int:
        """Touches so far."""
        return int(self._counts[self._kernels.STAMP])

    def rows_of(self, keys: Keys, safe_stamp: int) -> Cells:
        """One for each key, made where there is none. Blocks touched after `safe_stamp` stay."""
        rows = np.full(len(keys), -1, np.int32)
        done = 0
        while True:
            done += self._kernels.rows_of(
                keys[done:],
                self._table,
                self._keys,
                self._free,
                self._stamps,
                self._counts,
                rows[done:],
            )
            if done == len(keys):
                return rows
            if not self._forget(safe_stamp):
                self.n_without_room += len(keys) - done
                return rows

    def add_units(self, units: int) -> None:
        """There is room for so many caches from now on: some bytes a row more than was asked for,
        since rows stay where they are."""
        words = (units + _WORD_BITS - 1) // _WORD_BITS
        for name, width in (
            ("held", words),
            ("coming", words),
            ("n_coming", units),
            ("copies", units),
        ):
            before = getattr(self, name)
            wider = np.zeros((len(before), width), before.dtype)
            wider[:, : before.shape[1]] = before
            setattr(self, name, wider)
        stores = np.zeros(units, np.int64)
        stores[: self.units] = self.stores
        self.stores, self.units = stores, units

    def _forget(self, safe_stamp: int) -> bool:
        """Makes some rows free; False: there is none to be forgotten."""
        idle = (self._stamps > 0) & (self._stamps <= safe_stamp)
        idle &= ~self.held.any(axis=1) & ~self.coming.any(axis=1) & ~self.copies.any(axis=1)
        rows = np.flatnonzero(idle)
        if not len(rows):
            return False
        most = max(1, len(self._keys) // _FORGET)
        if len(rows) > most:
            rows = rows[np.argpartition(self._stamps[rows], most)[:most]]
        self._stamps[rows] = 0
        self.is_seen[rows], self.gone_by[rows] = False, -1
        n_free = int(self._counts[self._kernels.N_FREE])
        self._free[n_free : n_free + len(rows)] = rows
        self._counts[self._kernels.N_FREE] = n_free + len(rows)
        self._table[:] = -1
        self._kernels.fill(self._table, self._keys, np.flatnonzero(self._stamps).astype(np.int32))
        self.n_forgotten += len(rows)
        return True

    def check(self) -> None:
        """Raises BrokenInvariant."""
        used = np.flatnonzero(self._stamps)
        if len(used) != len(self):
            raise BrokenInvariant("rows are neither used nor free")
        if sorted(self._table[self._table >= 0].tolist()) != used.tolist():
            raise BrokenInvariant("a key stands nowhere, or twice")
        if not np.array_equal(self.n_coming.any(axis=1), self.coming.any(axis=1)):
            raise BrokenInvariant("what comes and how often differ")
