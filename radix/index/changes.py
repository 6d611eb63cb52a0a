"""Kernels that change the index: blocks stored and removed, lanes swept, blocks forgotten.

Own the meaning of rows, entries and holes. Invariants, all proven by `check`:

- A row lives as long as it has entries or child rows. A block nobody holds but whose child
  somebody holds stays as a ghost, so that the child keeps its parent.
- The children of an entry are the blocks below it which that lane holds, whether or not it holds
  the block itself. A lane's holes are the children of its entries without copies.
- Each call does a bounded amount of work beside its own blocks.
"""

import numpy as np

from radixroute.radix.ids import Arrays
from radixroute.radix.index.arena import give_row, number, take_row
from radixroute.radix.index.entries import drop_entry, entries_of, find_entry, take_entry
from radixroute.radix.index.layout import (
    CHILD_ROW,
    CHILD_ROWS,
    CHILDREN,
    CLOCK_ROW,
    COPIES,
    FORGOTTEN,
    HOLES,
    IS_DISTRUSTED,
    IS_TIGHT,
    LANE_FORGOTTEN,
    LANE_SHIFT,
    LIVE,
    LOW_32,
    MAX_PENDING,
    N_DIRTY,
    N_ENTRIES,
    N_PENDING,
    N_ROWS,
    N_SLOW,
    N_UNSWEPT,
    PAGES_FROM,
    PAIRS,
    PENDING_ROWS,
    RECENT,
    ROW_WORDS,
    STATE,
    TIGHT_WORDS,
)
from radixroute.radix.index.table import add, drop, place_for, row_at, seek
from radixroute.radix.jit import helper, rare_helper

_NONE = np.uint64(0)
_ONE = np.uint64(1)
_FREES_A_CALL = 64
_LOOKS_TO_FORGET = 128


@helper
def add_pair(a: Arrays, lane: int, tier: int, n: int) -> None:
    """A block more in a tier, or one less."""
    lanes, head = a.lanes, a.head
    lanes[lane, PAIRS + tier] += n
    if tier > 0 and lanes[lane, STATE] == LIVE:
        slow = lanes[lane, PAIRS + 1] + lanes[lane, PAIRS + 2]
        if n > 0 and slow == 1:
            head[N_SLOW] += 1
        elif n < 0 and slow == 0:
            head[N_SLOW] -= 1


@helper
def add_holes(a: Arrays, lane: int, n: int) -> None:
    """`n` more holes, or fewer."""
    lanes, head = a.lanes, a.head
    if n == 0:
        return
    before = lanes[lane, HOLES]
    lanes[lane, HOLES] = before + n
    if lanes[lane, STATE] == LIVE and lanes[lane, IS_DISTRUSTED] == 0:
        if before == 0:
            head[N_DIRTY] += 1
        elif before + n == 0:
            head[N_DIRTY] -= 1


@helper
def is_needless(a: Arrays, row: int) -> bool:
    """No entries and no child rows."""
    cells = a.cells
    at = ROW_WORDS * row
    is_used = cells[at] != _NONE
    has_child_rows = cells[at + 1] & CHILD_ROWS != _NONE
    return bool(is_used and cells[at + 2] == _NONE and not has_child_rows)


@rare_helper
def _free_from(a: Arrays, row: int, slot: int) -> None:
    cells, head = a.cells, a.head
    left = _FREES_A_CALL
    while row != 0 and is_needless(a, row):
        if left == 0 and head[N_PENDING] < MAX_PENDING:
            # A long chain of ghosts: the rest is for later calls, so that none pauses.
            head[PENDING_ROWS + head[N_PENDING]] = row
            head[N_PENDING] += 1
            return
        left -= 1
        at = ROW_WORDS * row
        parent = number(cells[at + 1] & LOW_32)
        if slot <= 0 or row_at(a, slot) != row:
            slot = seek(a, cells[at])
        drop(a, slot)
        slot = 0
        give_row(a, row)
        if parent != 0:
            cells[ROW_WORDS * parent + 1] -= CHILD_ROW
        row = parent


@helper
def free_if_needless(a: Arrays, row: int, slot: int) -> None:
    """Frees a row if nothing needs it, then its parents as far as nothing needs them either.

    `slot` is where the row's slot may stand; 0: not known.
    """
    if row != 0 and is_needless(a, row):
        _free_from(a, row, slot)


@helper
def unlink_parent(a: Arrays, parent: int, lane: int) -> None:
    """The lane holds one child less below `parent`."""
    cells, lanes = a.cells, a.lanes
    place = find_entry(a, parent, np.uint64(lane), 0)
    cells[place] -= _ONE
    if cells[place] & COPIES == _NONE:
        add_holes(a, lane, -1)
        if cells[place] & CHILDREN == _NONE:
            drop_entry(a, parent, place)
            lanes[lane, N_ENTRIES] -= 1
            free_if_needless(a, parent, 0)


@helper
def copies_in(word: np.uint64, tier: int) -> np.uint64:
    """Copies in a tier, by an entry."""
    if tier == 0:
        return (word >> np.uint64(40)) & np.uint64(1023)
    if tier == 1:
        return (word >> np.uint64(32)) & np.uint64(255)
    return (word >> np.uint64(24)) & np.uint64(255)


@rare_helper
def forget_row(a: Arrays, row: int) -> None:
    """All entries of a row without child rows, counted."""
    cells, lanes, head = a.cells, a.lanes, a.head
    at = ROW_WORDS * row
    parent = number(cells[at + 1] & LOW_32)
    while True:
        first, n = entries_of(a, row)
        if n == 0:
            break
        word = cells[first + n - 1]
        lane = number(word >> LANE_SHIFT)
        drop_entry(a, row, first + n - 1)
        lanes[lane, N_ENTRIES] -= 1
        if lanes[lane, STATE] != LIVE:
            head[N_UNSWEPT] -= 1
            continue
        for tier in range(3):
            if copies_in(word, tier) != _NONE:
                add_pair(a, lane, tier, -1)
                head[FORGOTTEN] += 1
                lanes[lane, LANE_FORGOTTEN] += 1
        if parent != 0:
            unlink_parent(a, parent, lane)
    free_if_needless(a, row, 0)


@rare_helper
def forget_one(a: Arrays) -> bool:
    """Forgets the next block that is not recent and has no child rows; False if none was found.

    A clock's hand over the rows: leaves only, so that what is left has no holes of our making.
    """
    cells, head = a.cells, a.head
    if not a.head[IS_TIGHT]:
        return False
    for _ in range(_LOOKS_TO_FORGET):
        row = head[CLOCK_ROW] + 1
        if row > head[N_ROWS]:
            row = 1
        head[CLOCK_ROW] = row
        at = ROW_WORDS * row
        if cells[at] == _NONE or cells[at + 1] & CHILD_ROWS != _NONE:
            continue
        if cells[at + 1] & RECENT:
            cells[at + 1] &= ~RECENT
            continue
        forget_row(a, row)
        return True
    return False


@helper
def make_row(a: Arrays, key: np.uint64, slot: int) -> int:
    """A row for an absent key, forgetting another if there is no room; 0 if that did not help.

    `slot` is minus what `seek` just found.
    """
    for attempt in range(2):
        place = place_for(a, key, slot)
        row = take_row(a) if place != 0 else 0
        if row != 0:
            a.cells[ROW_WORDS * row] = key
            add(a, key, place, row)
            return row
        if attempt == 0 and not forget_one(a):
            return 0
        slot = -seek(a, key)
    return 0


@helper
def make_entry(a: Arrays, row: int, lane: int) -> int:
    """A new entry of a lane in a pinned row, or a row with child rows; -1: no room."""
    lanes = a.lanes
    place = take_entry(a, row, np.uint64(lane))
    if place < 0 and forget_one(a):
        place = take_entry(a, row, np.uint64(lane))
    if place >= 0:
        lanes[lane, N_ENTRIES] += 1
    return place


@helper
def distrust(a: Arrays, lane: int) -> None:
    """Match this lane block by block from now on: one of its blocks has two parents."""
    lanes, head = a.lanes, a.head
    if lanes[lane, STATE] == LIVE and lanes[lane, IS_DISTRUSTED] == 0:
        lanes[lane, IS_DISTRUSTED] = 1
        if lanes[lane, HOLES] == 0:
            head[N_DIRTY] += 1


@helper
def link_parent(a: Arrays, parent: int, lane: int, hint: int) -> bool:
    """The lane holds one child more below `parent`; False if there is no room for saying so."""
    cells = a.cells
    place = find_entry(a, parent, np.uint64(lane), hint)
    if place < 0:
        place = make_entry(a, parent, lane)
    if place < 0 or cells[place] & CHILDREN == CHILDREN:
        return False
    cells[place] += _ONE
    if cells[place] & COPIES == _NONE:
        add_holes(a, lane, 1)
    return True


@helper
def pin(a: Arrays, row: int) -> None:
    """As if it had one child row more: it is neither freed nor forgotten meanwhile."""
    if row != 0 and a.head[IS_TIGHT]:
        a.cells[ROW_WORDS * row + 1] += CHILD_ROW


@helper
def unpin(a: Arrays, row: int) -> None:
    """Takes a `pin` back."""
    if row != 0 and a.head[IS_TIGHT]:
        a.cells[ROW_WORDS * row + 1] -= CHILD_ROW
        free_if_needless(a, row, 0)


@helper
def look_for_room(a: Arrays) -> None:
    """Decides whether the call that begins pins and forgets."""
    head = a.head
    room = head[PAGES_FROM] - ROW_WORDS * head[N_ROWS]
    head[IS_TIGHT] = room < TIGHT_WORDS


@rare_helper
def free_pending(a: Arrays) -> None:
    """Goes on with one chain of ghosts."""
    head = a.head
    if head[N_PENDING] != 0:
        head[N_PENDING] -= 1
        free_if_needless(a, head[PENDING_ROWS + head[N_PENDING]], 0)
