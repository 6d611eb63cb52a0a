"""Kernels of a row's entries: which lanes hold this block, in how many copies, with what below it.

Own word 2 of a row and the buddies it leads to: one entry lives in the row itself, more in a
buddy that doubles and halves. A place is a cell; taking or dropping an entry may move the others of
the same row, so places are used at once and not kept.
"""

import numpy as np

from radixroute.radix.ids import Arrays
from radixroute.radix.index.arena import give_buddy, number, take_buddy
from radixroute.radix.index.layout import (
    COUNT_MASK,
    COUNT_ONE,
    COUNT_SHIFT,
    LANE_SHIFT,
    MAX_ORDER,
    ORDER_SHIFT,
    POOLED,
    POSITION,
    ROW_WORDS,
)
from radixroute.radix.jit import helper, rare_helper

_NONE = np.uint64(0)


@helper
def entries_of(a: Arrays, row: int) -> tuple[int, int]:
    """First cell and number of a row's entries."""
    cells = a.cells
    at = ROW_WORDS * row
    word = cells[at + 2]
    if cells[at + 1] & POOLED:
        return number(word & POSITION), number((word >> COUNT_SHIFT) & COUNT_MASK)
    return at + 2, number(word != _NONE)


@helper
def find_entry(a: Arrays, row: int, lane: np.uint64, hint: int) -> int:
    """Its place, or -1. `hint` is where it stood in the row before: chains often have one order."""
    cells = a.cells
    first, n = entries_of(a, row)
    if hint < n and (cells[first + hint] >> LANE_SHIFT) == lane:
        return first + hint
    for place in range(first, first + n):
        if (cells[place] >> LANE_SHIFT) == lane:
            return place
    return -1


@helper
def _pooled(pool: int, n: int, order: int) -> np.uint64:
    return (np.uint64(order) << ORDER_SHIFT) | (np.uint64(n) << COUNT_SHIFT) | np.uint64(pool)


@rare_helper
def _resize(a: Arrays, row: int, order: int) -> bool:
    """The row's entries into a buddy of another order; False if there is no room."""
    cells = a.cells
    at = ROW_WORDS * row
    word = cells[at + 2]
    pool, n = number(word & POSITION), number((word >> COUNT_SHIFT) & COUNT_MASK)
    other = take_buddy(a, order)
    if other == 0:
        return False
    for i in range(n):
        cells[other + i] = cells[pool + i]
    give_buddy(a, pool, number(word >> ORDER_SHIFT))
    cells[at + 2] = _pooled(other, n, order)
    return True


@rare_helper
def _take_pooled(a: Arrays, row: int, lane: np.uint64) -> int:
    cells = a.cells
    at = ROW_WORDS * row
    word = cells[at + 2]
    if not cells[at + 1] & POOLED:
        pool = take_buddy(a, 1)
        if pool == 0:
            return -1
        cells[pool] = word
        cells[pool + 1] = lane << LANE_SHIFT
        cells[at + 1] |= POOLED
        cells[at + 2] = _pooled(pool, 2, 1)
        return pool + 1
    n, order = number((word >> COUNT_SHIFT) & COUNT_MASK), number(word >> ORDER_SHIFT)
    if n == 1 << order and (order == MAX_ORDER or not _resize(a, row, order + 1)):
        return -1
    pool = number(cells[at + 2] & POSITION)
    cells[pool + n] = lane << LANE_SHIFT
    cells[at + 2] += COUNT_ONE
    return pool + n


@helper
def take_entry(a: Arrays, row: int, lane: np.uint64) -> int:
    """A place with an empty entry of a lane that has none here; -1 if there is no room."""
    at = ROW_WORDS * row
    if a.cells[at + 2] == _NONE:
        a.cells[at + 2] = lane << LANE_SHIFT
        return at + 2
    return _take_pooled(a, row, lane)


@rare_helper
def _drop_pooled(a: Arrays, row: int, place: int) -> None:
    cells = a.cells
    at = ROW_WORDS * row
    word = cells[at + 2]
    pool, n = number(word & POSITION), number((word >> COUNT_SHIFT) & COUNT_MASK)
    order = number(word >> ORDER_SHIFT)
    cells[place] = cells[pool + n - 1]
    n -= 1
    cells[at + 2] -= COUNT_ONE
    if n == 1:
        cells[at + 2] = cells[pool]
        cells[at + 1] &= ~POOLED
        give_buddy(a, pool, order)
    elif n <= 1 << (order - 2):  # a quarter: growing again costs as much as was saved
        _resize(a, row, order - 1)


@helper
def drop_entry(a: Arrays, row: int, place: int) -> None:
    """The last entry of the row takes its place."""
    at = ROW_WORDS * row
    if a.cells[at + 1] & POOLED:
        _drop_pooled(a, row, place)
    else:
        a.cells[at + 2] = _NONE
