"""Kernels that read the index: the longest leading run of blocks that each lane holds.

A lane without holes that holds block i holds all blocks before it, so the sets of such lanes only
shrink along a prompt and a few probes find where they do. Lanes with holes, and those that hold a
block told with two parents, are followed block by block. I change nothing.
"""

import numpy as np

from radixroute.radix.arena import number
from radixroute.radix.changes import copies_in
from radixroute.radix.entries import entries_of
from radixroute.radix.ids import Arrays, Cells, Directory, Keys, Lanes, Numbers, Runs
from radixroute.radix.jit import helper, kernel
from radixroute.radix.layout import (
    COPIES,
    HOLES,
    IS_DISTRUSTED,
    LANE_SHIFT,
    N_DIRTY,
    N_LANES,
    N_UNSWEPT,
    NOTES,
    OUT_ROW,
    PAIRS,
)
from radixroute.radix.table import find

_NONE = np.uint64(0)
_ARRAYS = "uint64[::1], int64[::1], int64[:, ::1], int64[::1]"
_KEYS = "Array(uint64, 1, 'C', readonly=True)"
_MAX_STACK = 64


@helper
def _is_dirty(a: Arrays, lane: int) -> bool:
    lanes = a.lanes
    return bool(lanes[lane, HOLES] != 0 or lanes[lane, IS_DISTRUSTED] != 0)


@helper
def _n_clean(a: Arrays, row: int, is_clean: bool) -> int:
    """How many living lanes without holes hold this block."""
    cells, lanes = a.cells, a.lanes
    first, n = entries_of(a, row)
    if is_clean:
        return n
    n_clean = 0
    for place in range(first, first + n):
        word = cells[place]
        lane = number(word >> LANE_SHIFT)
        is_held = word & COPIES != _NONE
        if is_held and lanes[lane, OUT_ROW] >= 0 and not _is_dirty(a, lane):
            n_clean += 1
    return n_clean


@helper
def _set_clean(a: Arrays, row: int, out: Runs, run: int, is_clean: bool) -> None:
    """`run` for every living lane without holes that holds this block."""
    cells, lanes = a.cells, a.lanes
    first, n = entries_of(a, row)
    for place in range(first, first + n):
        word = cells[place]
        lane = number(word >> LANE_SHIFT)
        if not is_clean and (word & COPIES == _NONE or _is_dirty(a, lane)):
            continue
        if lanes[lane, OUT_ROW] >= 0:
            out[lanes[lane, OUT_ROW]] = run


@helper
def _gallop(a: Arrays, keys: Keys, out: Runs, row: int, n_here: int, is_clean: bool) -> None:
    """Finds each place where the set shrinks; places probed on the way are kept for later ones."""
    head = a.head
    places, rows, sizes = NOTES, NOTES + _MAX_STACK, NOTES + 2 * _MAX_STACK
    # Beyond the prompt nobody holds anything.
    head[places], head[rows], head[sizes] = len(keys), 0, 0
    top = 0
    here = 0
    probe = len(keys) - 1  # most often all of a prompt is held, or little
    while n_here > 0:
        while head[places + top] - here > 1:
            there = find(a, keys[probe])
            n_there = _n_clean(a, there, is_clean) if there != 0 else 0
            if n_there == n_here:
                here, row = probe, there
            elif n_there == head[sizes + top]:
                head[places + top], head[rows + top] = probe, there
            else:
                top += 1
                head[places + top], head[rows + top], head[sizes + top] = probe, there, n_there
            probe = (here + head[places + top]) // 2
        _set_clean(a, row, out, here + 1, is_clean)
        here, row, n_here = head[places + top], head[rows + top], head[sizes + top]
        top -= 1
        if top >= 0:
            probe = (here + head[places + top]) // 2


@helper
def _walk(a: Arrays, keys: Keys, out: Runs, row: int) -> None:
    """Lanes with holes, block by block until none of them goes on."""
    cells, lanes = a.cells, a.lanes
    for i in range(len(keys)):
        if i > 0:
            row = find(a, keys[i])
            if row == 0:
                return
        n_on = 0
        first, n = entries_of(a, row)
        for place in range(first, first + n):
            word = cells[place]
            lane = number(word >> LANE_SHIFT)
            at = lanes[lane, OUT_ROW]
            if word & COPIES != _NONE and at >= 0 and _is_dirty(a, lane) and out[at] == i:
                out[at] = i + 1
                n_on += 1
        if n_on == 0:
            return


@kernel(f"void({_ARRAYS}, {_KEYS}, int32[::1])")
def match(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, keys: Keys, out: Runs
) -> None:
    """Length of the run of each holder into zeroed `out`, at its lane's OUT_ROW."""
    a = Arrays(cells, directory, lanes, head)
    n = len(keys)
    first = find(a, keys[0]) if n else 0
    if first == 0:
        return
    is_clean = head[N_DIRTY] == 0 and head[N_UNSWEPT] == 0
    n_clean = _n_clean(a, first, is_clean)
    if n_clean:
        _gallop(a, keys, out, first, n_clean, is_clean)
    if head[N_DIRTY]:
        _walk(a, keys, out, first)


@kernel(
    f"int32[:, ::1]({_ARRAYS}, {_KEYS}, Array(int32, 1, 'C', readonly=True))", makes_arrays=True
)
def split_by_tier(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, keys: Keys, runs: Runs
) -> Runs:
    """Blocks of each run by their fastest tier, shape (runs, 3). O(longest run of a slow lane)."""
    a = Arrays(cells, directory, lanes, head)
    tiers = np.zeros((len(runs), 3), np.int32)
    tiers[:, 0] = runs
    longest = 0
    for lane in range(1, head[N_LANES] + 1):
        row = lanes[lane, OUT_ROW]
        if row >= 0 and lanes[lane, PAIRS + 1] + lanes[lane, PAIRS + 2] > 0:
            longest = max(longest, runs[row])
    for i in range(longest):
        first, n = entries_of(a, find(a, keys[i]))
        for place in range(first, first + n):
            word = cells[place]
            row = lanes[number(word >> LANE_SHIFT), OUT_ROW]
            if row < 0 or i >= runs[row] or copies_in(word, 0) != _NONE:
                continue
            tiers[row, 0] -= 1
            tiers[row, 1 if copies_in(word, 1) != _NONE else 2] += 1
    return tiers
