"""Kernels of the two events that matter: a chain of blocks stored, blocks removed.

Tie together what `changes`, `entries` and `table` own, one block after the other. Called by the
entry points in `kernels` and by whatever applies events in a packed form.
"""

import numpy as np

from radixroute.radix.ids import Arrays, Flags, Keys
from radixroute.radix.index.arena import number
from radixroute.radix.index.changes import (
    add_child_row,
    add_holes,
    add_pair,
    copies_in,
    let_go,
    link_parent,
    look_for_room,
    make_entry,
    make_row,
    pin,
    unlink_parent,
    unpin,
)
from radixroute.radix.index.entries import drop_entry, entries_of, find_entry
from radixroute.radix.index.layout import (
    CHILDREN,
    COPIES,
    DIGEST,
    DOUBTED,
    FORGOTTEN,
    LANE_FORGOTTEN,
    LOW_32,
    MAX_NOTES,
    MOVES_NOTED,
    N_COPIES,
    N_ENTRIES,
    N_MOVES,
    N_UNCOUNTED,
    NOTES,
    PARENT_KNOWN,
    RECENT,
    ROW_WORDS,
)
from radixroute.radix.index.proofs import contradict
from radixroute.radix.index.table import ask_for, row_at, seek, seek_tag
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.mixing_kernels import GAMMA_WORD, finalise_word
from radixroute.radix.prefetch import prefetch

_NONE = np.uint64(0)
_ONE = np.uint64(1)


@helper
def _noted(a: Arrays, keys: Keys, start: int, i: int, end: int) -> int:
    """What `seek` finds for key `i`, in order from `start`: sought for many keys ahead of time.

    Their cache misses wait together: four times faster at a million blocks.
    """
    head = a.head
    at = (i - start) % MAX_NOTES
    if at == 0:
        head[MOVES_NOTED] = head[N_MOVES]
        n = min(MAX_NOTES, end - i)
        for ahead in range(n):
            ask_for(a, keys[i + ahead])
        for ahead in range(n):
            slot = seek_tag(a, keys[i + ahead])
            head[NOTES + ahead] = slot
            prefetch(a.cells, ROW_WORDS * row_at(a, slot))
    slot = head[NOTES + at]
    # Since then slots may have moved, and an empty one been taken: by this very key, if it is there
    # twice.
    if slot > 0:
        is_right = a.cells[ROW_WORDS * row_at(a, slot)] == keys[i]
    else:
        is_right = a.cells[-slot] == _NONE and head[N_MOVES] == head[MOVES_NOTED]
    return slot if is_right else seek(a, keys[i])


@helper
def _tell_parent(a: Arrays, row: int, above: int) -> None:
    """The block follows `above` (0: none), or it is told otherwise than before."""
    cells = a.cells
    at = ROW_WORDS * row
    flags = cells[at + 1]
    is_own_parent = row == above
    if flags & PARENT_KNOWN == _NONE and not is_own_parent:
        cells[at + 1] = flags | PARENT_KNOWN | np.uint64(above)
        if above != 0:
            add_child_row(a, above)
    elif number(flags & LOW_32) != above or is_own_parent:
        contradict(a, row)


@helper
def _one_copy(tier: int) -> np.uint64:
    if tier == 0:
        return np.uint64(1 << 40)
    return np.uint64(1 << 32) if tier == 1 else np.uint64(1 << 24)


@helper
def _n_doubts(flags: np.uint64) -> int:
    """Holes that a block makes by itself for whoever holds it."""
    return 1 if flags & DOUBTED else 0


@rare_helper
def _take_back(a: Arrays, row: int, lane: int, tier: int) -> None:
    """The first copy of a block whose parent has no room to say so: the block is forgotten."""
    cells, lanes = a.cells, a.lanes
    place = find_entry(a, row, np.uint64(lane), 0)
    cells[place] -= _one_copy(tier)
    add_pair(a, lane, tier, -1)
    n_children = number(cells[place] & CHILDREN)
    add_holes(a, lane, n_children - _n_doubts(cells[ROW_WORDS * row + 1]))
    if n_children == 0:
        drop_entry(a, row, place)
        lanes[lane, N_ENTRIES] -= 1


@helper
def _most_copies(tier: int) -> np.uint64:
    return np.uint64(1023) if tier == 0 else np.uint64(255)


@helper
def _add_copy(a: Arrays, row: int, above: int, lane: int, tier: int, hint: int) -> int:
    """One copy more, after `above`; where in the row the entry stands, -1 if there is no room."""
    cells = a.cells
    place = find_entry(a, row, np.uint64(lane), hint)
    if place < 0:
        place = make_entry(a, row, lane)
        if place < 0:
            return -1
    # Only now: a row without entries keeps no parent, whatever is freed meanwhile.
    _tell_parent(a, row, above)
    hint_here = place - entries_of(a, row)[0]
    word = cells[place]
    in_tier = copies_in(word, tier)
    if in_tier == _most_copies(tier):
        a.head[N_UNCOUNTED] += 1
        return hint_here
    cells[place] = word + _one_copy(tier)
    if in_tier == _NONE:
        add_pair(a, lane, tier, 1)
    if word & COPIES != _NONE:
        return hint_here
    flags = cells[ROW_WORDS * row + 1]
    add_holes(a, lane, _n_doubts(flags) - number(word & CHILDREN))
    parent = number(flags & LOW_32)
    if parent != 0 and not link_parent(a, parent, lane, hint):
        _take_back(a, row, lane, tier)
        return -1
    return hint_here


@helper
def _forgotten(a: Arrays, lane: int, n: int) -> int:
    lanes, head = a.lanes, a.head
    head[FORGOTTEN] += n
    lanes[lane, LANE_FORGOTTEN] += n
    return n


@helper
def _weight_of(key: np.uint64, tier: int) -> np.uint64:
    """What a copy adds to the digest: `digest.mix`."""
    return finalise_word(key + GAMMA_WORD * np.uint64(tier + 1))


@helper
def _weight(keys: Keys, start: int, end: int, tier: int) -> np.uint64:
    total = _NONE
    for i in range(start, end):
        total += _weight_of(keys[i], tier)
    return total


@rare_helper
def store_blocks(  # noqa: PLR0913, PLR0917 - one event
    a: Arrays, lane: int, parent: np.uint64, keys: Keys, start: int, end: int, tier: int
) -> int:
    """One copy of each block of a chain entered a tier; returns how many found no room.

    `parent` 0: the chain begins a prompt. Key 0 names no block: what comes from it on is refused.
    """
    lanes, n = a.lanes, end - start
    look_for_room(a, n)
    lanes[lane, DIGEST] = np.int64(np.uint64(lanes[lane, DIGEST]) + _weight(keys, start, end, tier))
    lanes[lane, N_COPIES] += n
    above = 0
    if parent != _NONE:
        slot = seek(a, parent)
        above = row_at(a, slot) if slot > 0 else make_row(a, parent, -slot)
        if above == 0:
            return _forgotten(a, lane, n)
    pin(a, above)
    hint = 0
    stored = 0
    for i in range(start, end):
        if keys[i] == _NONE:
            break
        slot = _noted(a, keys, start, i, end)
        if slot > 0:
            row = row_at(a, slot)
            a.cells[ROW_WORDS * row + 1] |= RECENT
        else:
            row = make_row(a, keys[i], -slot)
            if row == 0:
                break
        pin(a, row)
        hint = _add_copy(a, row, above, lane, tier, hint)
        unpin(a, above)
        if i == start:
            let_go(a, above, 0)  # a ghost whose child has another parent already
        above = row
        if hint < 0:
            break
        stored += 1
    unpin(a, above)
    let_go(a, above, 0)
    return _forgotten(a, lane, n - stored)


@rare_helper
def remove_blocks(  # noqa: PLR0913, PLR0917 - one event
    a: Arrays, lane: int, keys: Keys, start: int, end: int, tier: int, is_known: Flags
) -> int:
    """One copy of each block left a tier; returns how many were not there.

    With `is_known`, shape (blocks,), it says which were there, and only those count in the digest.
    """
    cells, lanes = a.cells, a.lanes
    if len(is_known) == 0:
        lanes[lane, DIGEST] = np.int64(
            np.uint64(lanes[lane, DIGEST]) - _weight(keys, start, end, tier)
        )
        lanes[lane, N_COPIES] -= end - start
    one, most = _one_copy(tier), _most_copies(tier)
    hint = 0
    unknown = 0
    for i in range(start, end):
        slot = _noted(a, keys, start, i, end)
        row = row_at(a, slot)
        place = -1 if row == 0 else find_entry(a, row, np.uint64(lane), hint)
        word = cells[place] if place >= 0 else _NONE
        in_tier = copies_in(word, tier)
        if in_tier == _NONE:
            unknown += 1
            continue
        if len(is_known) != 0:
            is_known[i - start] = 1
            lanes[lane, DIGEST] = np.int64(
                np.uint64(lanes[lane, DIGEST]) - _weight_of(keys[i], tier)
            )
            lanes[lane, N_COPIES] -= 1
        hint = place - entries_of(a, row)[0]
        if in_tier == most:
            continue
        word -= one
        cells[place] = word
        if in_tier == _ONE:
            add_pair(a, lane, tier, -1)
        if word & COPIES != _NONE:
            continue
        n_children = number(word & CHILDREN)
        flags = cells[ROW_WORDS * row + 1]
        add_holes(a, lane, n_children - _n_doubts(flags))
        if n_children == 0:
            drop_entry(a, row, place)
            lanes[lane, N_ENTRIES] -= 1
        parent = number(flags & LOW_32)
        if parent != 0:
            unlink_parent(a, parent, lane)
        let_go(a, row, slot)
    return unknown
