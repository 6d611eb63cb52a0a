"""Kernels that change the index: blocks stored and removed, lanes swept, blocks forgotten.

Own the meaning of rows, entries and holes. Invariants, all proven by `check`:

- A row lives as long as it has entries or child rows. A block nobody holds but whose child
  somebody holds stays as a ghost, so that the child keeps its parent. A row without entries has no
  parent: what nobody holds keeps nothing else, however long the chain it was in.
- What parents events name is believed for speed alone. `DOUBTED` blocks count as holes of those who
  hold them: told with two parents, or above blocks proven while this one had another life.
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
    DOUBTED,
    FORGET_LOOKS,
    FORGOTTEN,
    GARBAGE_LOOKS,
    GARBAGE_ROW,
    HOLES,
    IS_TIGHT,
    LANE_FORGOTTEN,
    LANE_SHIFT,
    LIVE,
    LOW_32,
    N_DIRTY,
    N_ENTRIES,
    N_ROWS,
    N_SLOW,
    N_UNSWEPT,
    N_USED_ROWS,
    NEXT_TO_FORGET,
    PAGES_FROM,
    PAIRS,
    PARENT_KNOWN,
    PROVEN,
    RECENT,
    ROW_WORDS,
    STATE,
    TIGHT_WORDS,
)
from radixroute.radix.index.table import add, drop, place_for, row_at, seek
from radixroute.radix.jit import helper, rare_helper

_NONE = np.uint64(0)
_ONE = np.uint64(1)
# Rows a full arena looks at for a place. The first is for calls of a block or two: chains that are
# longer may cost such a call its place, and the next ones look on.
_LOOKS_A_CALL = 4096
_LOOKS_A_BLOCK = 128
# More than a block takes: a row, its slots, its place among the entries of a few holders.
_WORDS_A_BLOCK = 16


@helper
def add_child_row(a: Arrays, row: int) -> None:
    """One row more follows this one."""
    at = ROW_WORDS * row + 1
    if a.cells[at] & CHILD_ROWS != CHILD_ROWS:
        a.cells[at] += CHILD_ROW


@helper
def drop_child_row(a: Arrays, row: int) -> None:
    """One row less follows this one."""
    at = ROW_WORDS * row + 1
    if a.cells[at] & CHILD_ROWS != CHILD_ROWS:
        a.cells[at] -= CHILD_ROW


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
    if lanes[lane, STATE] == LIVE:
        if before == 0:
            head[N_DIRTY] += 1
        elif before + n == 0:
            head[N_DIRTY] -= 1


@rare_helper
def _let_go(a: Arrays, row: int, slot: int) -> None:
    cells = a.cells
    # Twice at most: what follows a row without entries has no entries, or no parent.
    while row != 0 and cells[ROW_WORDS * row + 2] == _NONE:
        at = ROW_WORDS * row
        flags = cells[at + 1]
        if flags & CHILD_ROWS == _NONE:
            if slot <= 0 or row_at(a, slot) != row:
                slot = seek(a, cells[at])
            drop(a, slot)
            give_row(a, row)
        else:
            # Blocks below may be proven; what is told of this one next is not.
            doubt = DOUBTED if flags & PROVEN != _NONE else _NONE
            cells[at + 1] = (flags & ~(PARENT_KNOWN | PROVEN | LOW_32)) | doubt
        slot, row = 0, number(flags & LOW_32)
        if row != 0:
            drop_child_row(a, row)


@helper
def let_go(a: Arrays, row: int, slot: int) -> None:
    """Takes from a row without entries what it no longer needs: its parent, and itself.

    `slot` is where the row's slot may stand; 0: not known.
    """
    cells, at = a.cells, ROW_WORDS * row
    if row != 0 and cells[at] != _NONE and cells[at + 2] == _NONE:
        _let_go(a, row, slot)


@helper
def unlink_parent(a: Arrays, parent: int, lane: int) -> None:
    """The lane holds one child less below `parent`."""
    cells, lanes = a.cells, a.lanes
    place = find_entry(a, parent, np.uint64(lane), 0)
    if cells[place] & CHILDREN == CHILDREN:
        return
    cells[place] -= _ONE
    if cells[place] & COPIES == _NONE:
        add_holes(a, lane, -1)
        if cells[place] & CHILDREN == _NONE:
            drop_entry(a, parent, place)
            lanes[lane, N_ENTRIES] -= 1
            let_go(a, parent, 0)


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
    is_doubted = cells[at + 1] & DOUBTED != _NONE
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
        if is_doubted:
            add_holes(a, lane, -1)
        if parent != 0:
            unlink_parent(a, parent, lane)
    let_go(a, row, 0)


@rare_helper
def drop_retired(a: Arrays, row: int) -> bool:
    """Takes the entries of retired lanes out of a row; False if there are none."""
    cells, lanes, head = a.cells, a.lanes, a.head
    _, n = entries_of(a, row)
    has_dropped = False
    for i in range(n - 1, -1, -1):
        first, _ = entries_of(a, row)
        lane = number(cells[first + i] >> LANE_SHIFT)
        if lanes[lane, STATE] != LIVE:
            drop_entry(a, row, first + i)
            lanes[lane, N_ENTRIES] -= 1
            head[N_UNSWEPT] -= 1
            has_dropped = True
    return has_dropped


@helper
def _has_cleared_a_row(a: Arrays) -> bool:
    """Frees a row that only retired lanes held."""
    cells, head = a.cells, a.head
    n_used = head[N_USED_ROWS]
    while head[N_UNSWEPT] != 0 and head[GARBAGE_LOOKS] > 0:
        head[GARBAGE_LOOKS] -= 1
        row = head[GARBAGE_ROW] + 1
        if row > head[N_ROWS]:
            row = 1
        head[GARBAGE_ROW] = row
        if cells[ROW_WORDS * row] != _NONE and drop_retired(a, row):
            let_go(a, row, 0)
            if head[N_USED_ROWS] < n_used:
                return True
    return False


@helper
def _is_old_end(a: Arrays, row: int) -> bool:
    cells = a.cells
    at = ROW_WORDS * row
    is_held = cells[at] != _NONE and cells[at + 2] != _NONE
    return bool(is_held and cells[at + 1] & (CHILD_ROWS | RECENT) == _NONE)


@helper
def _next_old_end(a: Arrays) -> int:
    """A clock's hand over the rows: what it finds recent is not when it comes again."""
    cells, head = a.cells, a.head
    while head[FORGET_LOOKS] > 0:
        head[FORGET_LOOKS] -= 1
        row: int = head[CLOCK_ROW] + 1
        if row > head[N_ROWS]:
            row = 1
        head[CLOCK_ROW] = row
        if _is_old_end(a, row):
            return row
        if cells[ROW_WORDS * row] != _NONE:
            cells[ROW_WORDS * row + 1] &= ~RECENT
    return 0


@rare_helper
def forget_one(a: Arrays) -> bool:
    """Frees a row in a full arena; False if none was found.

    What retired lanes left goes first. Then a block that nobody stored again lately and that none
    follows, so that what is left has no holes of our making; the block before it is next, so that
    a long chain costs one search.
    """
    cells, head = a.cells, a.head
    if not head[IS_TIGHT]:
        return False
    if _has_cleared_a_row(a):
        return True
    row = head[NEXT_TO_FORGET]
    if row == 0 or not _is_old_end(a, row):
        row = _next_old_end(a)
    if row == 0:
        return False
    head[NEXT_TO_FORGET] = number(cells[ROW_WORDS * row + 1] & LOW_32)
    forget_row(a, row)
    return True


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
    lanes, head = a.lanes, a.head
    place = take_entry(a, row, np.uint64(lane))
    if place < 0 and head[N_UNSWEPT] != 0 and drop_retired(a, row):
        place = take_entry(a, row, np.uint64(lane))
    if place < 0 and forget_one(a):
        place = take_entry(a, row, np.uint64(lane))
    if place >= 0:
        lanes[lane, N_ENTRIES] += 1
    return place


@helper
def link_parent(a: Arrays, parent: int, lane: int, hint: int) -> bool:
    """The lane holds one child more below `parent`; False if there is no room for saying so."""
    cells = a.cells
    place = find_entry(a, parent, np.uint64(lane), hint)
    if place < 0:
        place = make_entry(a, parent, lane)
    if place < 0:
        return False
    if cells[place] & CHILDREN == CHILDREN:
        return True
    cells[place] += _ONE
    if cells[place] & COPIES == _NONE:
        add_holes(a, lane, 1)
    if cells[place] & CHILDREN == CHILDREN:
        add_holes(a, lane, 1)  # nobody counts them from now on: a hole that stays
    return True


@helper
def pin(a: Arrays, row: int) -> None:
    """As if it had one child row more: it is neither freed nor forgotten meanwhile."""
    if row != 0 and a.head[IS_TIGHT]:
        add_child_row(a, row)


@helper
def unpin(a: Arrays, row: int) -> None:
    """Takes a `pin` back."""
    if row != 0 and a.head[IS_TIGHT]:
        drop_child_row(a, row)
        let_go(a, row, 0)


@helper
def look_for_room(a: Arrays, n: int) -> None:
    """Decides whether the call that begins, of `n` blocks, pins and forgets."""
    head = a.head
    room = head[PAGES_FROM] - ROW_WORDS * head[N_ROWS]
    head[IS_TIGHT] = room < TIGHT_WORDS + _WORDS_A_BLOCK * n
    head[GARBAGE_LOOKS] = head[FORGET_LOOKS] = _LOOKS_A_CALL + _LOOKS_A_BLOCK * n
