"""Kernels of the arena: rows from its low end, pages from its high end, buddies within pages.

Own who has which words of `cells`; what is in them is others' business. Every operation is O(1) or
O(orders); nothing is ever moved or copied to grow, so growing never pauses and has no peak.
0 stands for "no room" everywhere: row 0 and cell 0 belong to nobody.
"""

import numpy as np

from radixroute.radix.ids import Arrays
from radixroute.radix.index.layout import (
    FREE_BUDDY,
    FREE_ORDER_SHIFT,
    FREE_ROW,
    LANE_SHIFT,
    MAX_ORDER,
    N_FREE_WORDS,
    N_ROWS,
    N_USED_ROWS,
    PAGE_WORDS,
    PAGES_FROM,
    POSITION,
    ROW_WORDS,
)
from radixroute.radix.jit import helper, rare_helper


@helper
def number(word: np.uint64) -> int:
    """A word as a signed number: cells are counted in those."""
    return np.int64(word)  # type: ignore[return-value]  # what numba makes of an int


@helper
def take_row(a: Arrays) -> int:
    """An empty row, or 0."""
    cells, head = a.cells, a.head
    row: int = head[FREE_ROW]
    if row != 0:
        head[FREE_ROW] = number(cells[ROW_WORDS * row + 1])
    else:
        row = head[N_ROWS] + 1
        if ROW_WORDS * (row + 1) > head[PAGES_FROM]:
            return 0
        head[N_ROWS] = row
    at = ROW_WORDS * row
    cells[at + 1] = np.uint64(0)
    cells[at + 2] = np.uint64(0)
    head[N_USED_ROWS] += 1
    return row


@helper
def give_row(a: Arrays, row: int) -> None:
    """Key 0 marks it as free: no block has that key."""
    cells, head = a.cells, a.head
    at = ROW_WORDS * row
    cells[at] = np.uint64(0)
    cells[at + 1] = np.uint64(head[FREE_ROW])
    cells[at + 2] = np.uint64(0)
    head[FREE_ROW] = row
    head[N_USED_ROWS] -= 1


@helper
def _link(a: Arrays, at: int, order: int) -> None:
    cells, head = a.cells, a.head
    first = head[FREE_BUDDY + order]
    cells[at] = (np.uint64(order + 1) << FREE_ORDER_SHIFT) | np.uint64(first)
    cells[at + 1] = np.uint64(0)
    if first != 0:
        cells[first + 1] = np.uint64(at)
    head[FREE_BUDDY + order] = at
    head[N_FREE_WORDS] += 1 << order


@helper
def _unlink(a: Arrays, at: int, order: int) -> None:
    cells, head = a.cells, a.head
    after = number(cells[at] & POSITION)
    before = number(cells[at + 1])
    if before != 0:
        cells[before] = (cells[before] & ~POSITION) | np.uint64(after)
    else:
        head[FREE_BUDDY + order] = after
    if after != 0:
        cells[after + 1] = np.uint64(before)
    # The first word must not look free to a neighbour that is given back later.
    cells[at] = np.uint64(0)
    head[N_FREE_WORDS] -= 1 << order


@rare_helper
def take_buddy(a: Arrays, order: int) -> int:
    """The first cell of 2**order free ones, or 0."""
    head = a.head
    found = order
    while found <= MAX_ORDER and head[FREE_BUDDY + found] == 0:
        found += 1
    if found > MAX_ORDER:
        at: int = head[PAGES_FROM] - PAGE_WORDS
        if at < ROW_WORDS * (head[N_ROWS] + 1):
            return 0
        head[PAGES_FROM] = at
        found = MAX_ORDER
    else:
        at = head[FREE_BUDDY + found]
        _unlink(a, at, found)
    while found > order:
        found -= 1
        _link(a, at + (1 << found), found)
    return at


@helper
def _is_free(a: Arrays, at: int, order: int) -> bool:
    cells = a.cells
    word = cells[at]
    is_entry = (word >> LANE_SHIFT) != np.uint64(0)
    return not is_entry and number(word >> FREE_ORDER_SHIFT) == order + 1


@rare_helper
def give_buddy(a: Arrays, at: int, order: int) -> None:
    """Takes 2**order cells back; they merge with their free neighbours."""
    while order < MAX_ORDER:
        other = at ^ (1 << order)  # `cells` is a whole number of pages long
        if not _is_free(a, other, order):
            break
        _unlink(a, other, order)
        at = min(at, other)
        order += 1
    _link(a, at, order)
