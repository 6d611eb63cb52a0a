"""Kernels of what is believed of parents: blocks doubted, and blocks proven by a prompt.

Own two flags of a row. Events may name any parent; a prompt knows the true ones. `PROVEN` says that
a prompt has shown a block's parent to be right, and those above it; only such blocks are jumped to.
`DOUBTED` says that it may be wrong: told with two parents, refuted by a prompt, or above blocks
that were proven while this one had another life. It is a hole of whoever holds the block.

A block is proven from below, without a search: its row leads to its parent's, and what a prompt has
before it must be the key there, up to a block that is proven already.
"""

import numpy as np

from radixroute.radix.ids import Arrays, Keys, Runs
from radixroute.radix.index.arena import number
from radixroute.radix.index.changes import add_holes
from radixroute.radix.index.entries import entries_of
from radixroute.radix.index.layout import (
    CONFLICTS,
    COPIES,
    DOUBTED,
    LANE_SHIFT,
    LOW_32,
    OUT_ROWS,
    PARENT_KNOWN,
    PROVEN,
    ROW_WORDS,
)
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.prefetch import prefetch

_NONE = np.uint64(0)
_AHEAD = 40  # rows


@helper
def is_proven(a: Arrays, row: int) -> bool:
    """Whether a prompt has shown that a block's parent is right, and those above it."""
    return bool(a.cells[ROW_WORDS * row + 1] & PROVEN != _NONE)


@helper
def is_after(a: Arrays, row: int, above: int) -> bool:
    """Whether a row says what this prompt says: that it follows `above`, which is proven, or 0."""
    flags = a.cells[ROW_WORDS * row + 1]
    return bool(flags & PARENT_KNOWN != _NONE and number(flags & LOW_32) == above)


@helper
def _n_in_order(a: Arrays, keys: Keys, place: int, row: int) -> int:
    """How many blocks, from this one up, follow the prompt's one before it in the row before."""
    cells = a.cells
    n = 0
    while True:
        above = row - n - 1
        told = cells[ROW_WORDS * above + ROW_WORDS + 1] & (PROVEN | DOUBTED | LOW_32)
        if told != np.uint64(above) or cells[ROW_WORDS * above] != keys[place - n - 1]:
            return n
        prefetch(cells, ROW_WORDS * max(above - _AHEAD, 0))
        n += 1


@helper
def _trust_in_order(a: Arrays, row: int, end: int) -> int:
    """Marks blocks as proven that follow the row before, up to `end`; returns where that ended."""
    cells = a.cells
    while row != end and number(cells[ROW_WORDS * row + 1] & LOW_32) == row - 1:
        cells[ROW_WORDS * row + 1] |= PROVEN
        row -= 1
    return row


@rare_helper
def has_climbed(a: Arrays, keys: Keys, place: int, row: int) -> bool:
    """Proves the block at `place` and all above it; False, and nothing is proven, if one is wrong.

    `row` is its row, and the prompt's first block is proven. Blocks stored together have rows in
    order: there no step waits for what the last one read.
    """
    cells = a.cells
    above = row
    while True:
        n = _n_in_order(a, keys, place, above)
        above -= n
        place -= n
        flags = cells[ROW_WORDS * above + 1]
        if flags & PROVEN != _NONE:
            break
        above = number(flags & LOW_32)
        place -= 1
        # Who holds a doubted block changes sides once it is trusted: not while sides are counted.
        if flags & DOUBTED != _NONE or above == 0 or cells[ROW_WORDS * above] != keys[place]:
            return False
    while row != above:
        row = _trust_in_order(a, row, above)
        if row != above:
            flags = cells[ROW_WORDS * row + 1]
            cells[ROW_WORDS * row + 1] = flags | PROVEN
            row = number(flags & LOW_32)
    return True


@helper
def _add_hole_for_each(a: Arrays, row: int, n: int) -> None:
    cells = a.cells
    first, n_entries = entries_of(a, row)
    for place in range(first, first + n_entries):
        if cells[place] & COPIES != _NONE:
            add_holes(a, number(cells[place] >> LANE_SHIFT), n)


@rare_helper
def doubt(a: Arrays, row: int) -> None:
    """A block's parent may be wrong: whoever holds it is matched block by block meanwhile."""
    cells, at = a.cells, ROW_WORDS * row + 1
    if cells[at] & DOUBTED == _NONE:
        cells[at] |= DOUBTED
        _add_hole_for_each(a, row, 1)


@rare_helper
def trust(a: Arrays, row: int) -> None:
    """A prompt has shown that a block's parent is right, and that one's, up to the beginning."""
    cells, at = a.cells, ROW_WORDS * row + 1
    if cells[at] & DOUBTED != _NONE:
        cells[at] &= ~DOUBTED
        _add_hole_for_each(a, row, -1)
    cells[at] |= PROVEN


@rare_helper
def contradict(a: Arrays, row: int) -> None:
    """A block was told with another parent than before."""
    cells, at = a.cells, ROW_WORDS * row + 1
    a.head[CONFLICTS] += 1
    # Once proven it is the teller who is wrong, and the row goes on saying what is right.
    if cells[at] & PROVEN == _NONE:
        cells[at] |= PARENT_KNOWN
        doubt(a, row)


@rare_helper
def refute(a: Arrays, out: Runs, row: int) -> None:
    """A block follows another than was told: its holders are followed from the beginning."""
    cells, head = a.cells, a.head
    flags = cells[ROW_WORDS * row + 1]
    # Nobody holds a block whose parent is not known; a doubted one's holders are followed already.
    if flags & PARENT_KNOWN == _NONE or flags & DOUBTED != _NONE:
        return
    head[CONFLICTS] += 1
    doubt(a, row)
    first, n = entries_of(a, row)
    for place in range(first, first + n):
        at = head[OUT_ROWS + number(cells[place] >> LANE_SHIFT)]
        if at >= 0 and cells[place] & COPIES != _NONE:
            out[at] = 0
