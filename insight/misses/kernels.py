"""Kernels of live miss attribution: block keys as rows, and packed events as changes of them.

A table of hashes with linear probing; nothing is taken out of it: whoever forgets rows makes it
anew. Compiled or loaded at import (`radix.jit`).
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.index.layout import PACKED_CLEAR, PACKED_HEAD, PACKED_KIND, PACKED_STORE
from radixroute.radix.jit import helper, kernel
from radixroute.radix.mixing_kernels import finalise_word
from radixroute.replay.arrays import Cells

Kinds: TypeAlias = NDArray[np.int8]

# What becomes of a block in a cache; `CLEARED` is of all of them.
GONE: Final = 0
THERE: Final = 1
CLEARED: Final = 2
# What `rows_of` counts with.
N_FREE: Final = 0  # rows on the free list
STAMP: Final = 1  # of the row that was touched last
COUNTS_LEN: Final = 2

_MOST: Final = 255  # copies
_KIND, _STORE, _CLEAR = np.uint64(PACKED_KIND), np.uint64(PACKED_STORE), np.uint64(PACKED_CLEAR)


@helper
def _place(key: np.uint64, table: Cells, keys: Keys) -> int:
    """Where it stands, or would."""
    mask = len(table) - 1
    place = np.int64(finalise_word(key) & np.uint64(mask))
    while table[place] >= 0 and keys[table[place]] != key:
        place = (place + 1) & mask
    return place  # type: ignore[return-value]


@kernel(
    "int64(uint64[::1], int32[::1], uint64[::1], int32[::1], int64[::1], int64[::1], int32[::1])"
)
def rows_of(  # noqa: PLR0913, PLR0917 - the table, and what is asked
    asked: Keys,
    table: Cells,
    keys: Keys,
    free: Cells,
    stamps: Numbers,
    counts: Numbers,
    rows: Cells,
) -> int:
    """The rows of the first keys, made where there are none, until no row is free; how many."""
    for i in range(len(asked)):
        place = _place(asked[i], table, keys)
        row = table[place]
        if row < 0:
            if counts[N_FREE] == 0:
                return i
            counts[N_FREE] -= 1
            row = free[counts[N_FREE]]
            table[place] = row
            keys[row] = asked[i]
        counts[STAMP] += 1
        stamps[row] = counts[STAMP]
        rows[i] = row
    return len(asked)


@kernel("void(int32[::1], uint64[::1], int32[::1])")
def fill(table: Cells, keys: Keys, rows: Cells) -> None:
    """Puts these rows into an empty table."""
    for i in range(len(rows)):
        table[_place(keys[rows[i]], table, keys)] = rows[i]


@kernel("int64(uint64[::1], int64[::1], uint64[::1], int8[::1], int64[::1])")
def unpack(words: Keys, ends: Numbers, keys: Keys, kinds: Kinds, batches: Numbers) -> int:
    """Packed events of batches, one after the other, as one key a change, in order; how many.

    `ends`: of each batch in `words`. `kinds`: `GONE`, `THERE`, or `CLEARED`, whose key is 0.
    """
    n, at = 0, 0
    for batch in range(len(ends)):
        while at < ends[batch]:
            kind, length = words[at] & _KIND, int(words[at + 2])
            if kind == _CLEAR:
                keys[n], kinds[n], batches[n] = np.uint64(0), CLEARED, batch
                n += 1
            for i in range(length):
                keys[n] = words[at + PACKED_HEAD + i]
                kinds[n] = THERE if kind == _STORE else GONE
                batches[n] = batch
                n += 1
            at += PACKED_HEAD + length
    return n


@kernel(
    "int64(int32[::1], int8[::1], int64, uint8[:, ::1], int64[::1], int64[::1], int16[::1],"
    " int64[::1])"
)
def told(  # noqa: PLR0913, PLR0917 - what changes, and what is kept of it
    rows: Cells,
    kinds: Kinds,
    unit: int,
    copies: NDArray[np.uint8],
    stores: Numbers,
    gone_at: Numbers,
    gone_by: NDArray[np.int16],
    chosen: Numbers,
) -> int:
    """Which of these changes matter, into `chosen`; how many. After those its cache has a block, or
    has it no more: it may have several copies of one, and the last one counts.

    `stores`: blocks that each cache ever took; `gone_at`, `gone_by`: which cache lost a block last,
    and how many it had taken then.
    """
    n = 0
    for i in range(len(rows)):
        row, kind = rows[i], kinds[i]
        if kind == CLEARED:
            for other in range(len(copies)):
                copies[other, unit] = 0
        elif row < 0:
            continue
        elif kind == THERE:
            stores[unit] += 1
            if copies[row, unit] < _MOST:
                copies[row, unit] += 1
            if copies[row, unit] > 1:
                continue
        else:
            if copies[row, unit] == 0:
                continue
            copies[row, unit] -= 1
            if copies[row, unit] > 0:
                continue
            gone_at[row], gone_by[row] = stores[unit], unit
        chosen[n] = i
        n += 1
    return n
