"""The prefix index's entry points in compiled code, each called from `index` and from nowhere else.

I own no data. Importing me compiles, or loads from the cache. `cells`, `directory`, `lanes`, `head`
are the four arrays of one index (`layout`); a lane is a number that `index` gives out.
"""

import numpy as np

from radixroute.radix.arena import number
from radixroute.radix.changes import (
    add_holes,
    add_pair,
    copies_in,
    distrust,
    free_if_needless,
    free_pending,
    link_parent,
    look_for_room,
    make_entry,
    make_row,
    pin,
    unlink_parent,
    unpin,
)
from radixroute.radix.entries import drop_entry, entries_of, find_entry
from radixroute.radix.ids import Arrays, Cells, Directory, Flags, Keys, Lanes, Numbers
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.radix.layout import (
    CHILD_ROW,
    CHILDREN,
    CONFLICTED,
    CONFLICTS,
    COPIES,
    DIGEST,
    FORGOTTEN,
    LANE_FORGOTTEN,
    LANE_SHIFT,
    LOW_32,
    MAX_NOTES,
    MOVES_NOTED,
    N_COPIES,
    N_ENTRIES,
    N_MOVES,
    N_ROWS,
    N_UNSWEPT,
    NOTES,
    PARENT_KNOWN,
    RECENT,
    ROW_WORDS,
    STATE,
    SWEEP_ROW,
    SWEPT,
)
from radixroute.radix.prefetch import prefetch
from radixroute.radix.table import ask_for, buckets_read, find, open_first, row_at, seek, seek_tag

_NONE = np.uint64(0)
_ARRAYS = "uint64[::1], int64[::1], int64[:, ::1], int64[::1]"
_KEYS = "Array(uint64, 1, 'C', readonly=True)"
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@helper
def _noted(a: Arrays, keys: Keys, i: int) -> int:
    """What `seek` finds for key `i`, in order of `i`: sought for many keys ahead of time.

    Their cache misses wait together: four times faster at a million blocks.
    """
    head = a.head
    at = i % MAX_NOTES
    if at == 0:
        head[MOVES_NOTED] = head[N_MOVES]
        n = min(MAX_NOTES, len(keys) - i)
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
    """The block follows `above` (0: none), or a conflict with what was told before."""
    cells, head = a.cells, a.head
    at = ROW_WORDS * row
    flags = cells[at + 1]
    is_own_parent = row == above
    if flags & PARENT_KNOWN == _NONE and not is_own_parent:
        cells[at + 1] = flags | PARENT_KNOWN | np.uint64(above)
        if above != 0:
            cells[ROW_WORDS * above + 1] += CHILD_ROW
    elif number(flags & LOW_32) != above or is_own_parent:
        cells[at + 1] = flags | PARENT_KNOWN | CONFLICTED
        head[CONFLICTS] += 1
        first, n = entries_of(a, row)
        for place in range(first, first + n):
            distrust(a, number(cells[place] >> LANE_SHIFT))


@helper
def _one_copy(tier: int) -> np.uint64:
    if tier == 0:
        return np.uint64(1 << 40)
    return np.uint64(1 << 32) if tier == 1 else np.uint64(1 << 24)


@rare_helper
def _take_back(a: Arrays, row: int, lane: int, tier: int) -> None:
    """The first copy of a block whose parent has no room to say so: the block is forgotten."""
    cells, lanes = a.cells, a.lanes
    place = find_entry(a, row, np.uint64(lane), 0)
    cells[place] -= _one_copy(tier)
    add_pair(a, lane, tier, -1)
    n_children = number(cells[place] & CHILDREN)
    add_holes(a, lane, n_children)
    if n_children == 0:
        drop_entry(a, row, place)
        lanes[lane, N_ENTRIES] -= 1


@helper
def _most_copies(tier: int) -> np.uint64:
    return np.uint64(1023) if tier == 0 else np.uint64(255)


@helper
def _add_copy(a: Arrays, row: int, lane: int, tier: int, hint: int) -> int:
    """One copy more; where in the row the entry stands, -1 if there is no room."""
    cells = a.cells
    place = find_entry(a, row, np.uint64(lane), hint)
    if place < 0:
        place = make_entry(a, row, lane)
        if place < 0:
            return -1
    hint_here = place - entries_of(a, row)[0]
    word = cells[place]
    in_tier = copies_in(word, tier)
    if in_tier == _most_copies(tier):
        return -1
    cells[place] = word + _one_copy(tier)
    if in_tier == _NONE:
        add_pair(a, lane, tier, 1)
    flags = cells[ROW_WORDS * row + 1]
    cells[ROW_WORDS * row + 1] = flags | RECENT
    if flags & CONFLICTED:
        distrust(a, lane)
    if word & COPIES != _NONE:
        return hint_here
    add_holes(a, lane, -number(word & CHILDREN))
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
    z = key + _GAMMA * np.uint64(tier + 1)
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@helper
def _weight(keys: Keys, tier: int) -> np.uint64:
    total = _NONE
    for i in range(len(keys)):
        total += _weight_of(keys[i], tier)
    return total


@kernel(f"boolean({_ARRAYS})")
def start(cells: Cells, directory: Directory, lanes: Lanes, head: Numbers) -> bool:
    """Makes an empty index of zeroed arrays; False if they are too small."""
    a = Arrays(cells, directory, lanes, head)
    return open_first(a)


@kernel(f"int64({_ARRAYS}, int64, uint64, {_KEYS}, int64)")
def store(  # noqa: PLR0913, PLR0917 - the four arrays and one event
    cells: Cells,
    directory: Directory,
    lanes: Lanes,
    head: Numbers,
    lane: int,
    parent: np.uint64,
    keys: Keys,
    tier: int,
) -> int:
    """One copy of each block of a chain entered a tier; returns how many found no room.

    `parent` 0: the chain begins a prompt. Key 0 names no block: what comes from it on is refused.
    """
    a = Arrays(cells, directory, lanes, head)
    look_for_room(a)
    free_pending(a)
    n = len(keys)
    lanes[lane, DIGEST] = np.int64(np.uint64(lanes[lane, DIGEST]) + _weight(keys, tier))
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
    for i in range(n):
        if keys[i] == _NONE:
            break
        slot = _noted(a, keys, i)
        row = row_at(a, slot) if slot > 0 else make_row(a, keys[i], -slot)
        if row == 0:
            break
        pin(a, row)
        _tell_parent(a, row, above)
        hint = _add_copy(a, row, lane, tier, hint)
        unpin(a, above)
        above = row
        if hint < 0:
            break
        stored += 1
    unpin(a, above)
    free_if_needless(a, above, 0)
    return _forgotten(a, lane, n - stored)


@kernel(f"int64({_ARRAYS}, int64, {_KEYS}, int64, uint8[::1])")
def remove(  # noqa: PLR0913, PLR0917 - the four arrays and one event
    cells: Cells,
    directory: Directory,
    lanes: Lanes,
    head: Numbers,
    lane: int,
    keys: Keys,
    tier: int,
    is_known: Flags,
) -> int:
    """One copy of each block left a tier; returns how many were not there.

    With `is_known`, shape (keys,), it says which were there, and only those count in the digest.
    """
    a = Arrays(cells, directory, lanes, head)
    free_pending(a)
    if len(is_known) == 0:
        lanes[lane, DIGEST] = np.int64(np.uint64(lanes[lane, DIGEST]) - _weight(keys, tier))
        lanes[lane, N_COPIES] -= len(keys)
    one = _one_copy(tier)
    hint = 0
    unknown = 0
    for i in range(len(keys)):
        slot = _noted(a, keys, i)
        row = row_at(a, slot)
        place = -1 if row == 0 else find_entry(a, row, np.uint64(lane), hint)
        if place < 0 or copies_in(cells[place], tier) == _NONE:
            unknown += 1
            continue
        if len(is_known) != 0:
            is_known[i] = 1
            lanes[lane, DIGEST] = np.int64(
                np.uint64(lanes[lane, DIGEST]) - _weight_of(keys[i], tier)
            )
            lanes[lane, N_COPIES] -= 1
        hint = place - entries_of(a, row)[0]
        cells[place] -= one
        word = cells[place]
        if copies_in(word, tier) == _NONE:
            add_pair(a, lane, tier, -1)
        if word & COPIES != _NONE:
            continue
        n_children = number(word & CHILDREN)
        add_holes(a, lane, n_children)
        if n_children == 0:
            drop_entry(a, row, place)
            lanes[lane, N_ENTRIES] -= 1
        parent = number(cells[ROW_WORDS * row + 1] & LOW_32)
        if parent != 0:
            unlink_parent(a, parent, lane)
        free_if_needless(a, row, slot)
    return unknown


@kernel(f"int64({_ARRAYS}, int64)")
def sweep(cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, budget: int) -> int:
    """Goes on with a pass over the rows, taking away the entries of lanes that are SWEPT.

    Returns how many rows and entries it looked at; `head[SWEEP_ROW]` is 0 when the pass is over.
    """
    a = Arrays(cells, directory, lanes, head)
    done = 0
    while done < budget and head[SWEEP_ROW] != 0:
        row = head[SWEEP_ROW]
        if row > head[N_ROWS]:
            head[SWEEP_ROW] = 0
            break
        head[SWEEP_ROW] += 1
        done += 1
        if cells[ROW_WORDS * row] == _NONE:
            continue
        first, n = entries_of(a, row)
        done += n
        has_dropped = False
        for i in range(n - 1, -1, -1):
            first, _ = entries_of(a, row)
            lane = number(cells[first + i] >> LANE_SHIFT)
            if lanes[lane, STATE] == SWEPT:
                drop_entry(a, row, first + i)
                lanes[lane, N_ENTRIES] -= 1
                head[N_UNSWEPT] -= 1
                has_dropped = True
        if has_dropped:
            free_if_needless(a, row, 0)
    return done


@kernel(f"int64({_ARRAYS}, int64, uint64)")
def word_of(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, lane: int, key: np.uint64
) -> int:
    """A lane's entry of a block, without the lane; 0 if there is none."""
    a = Arrays(cells, directory, lanes, head)
    row = find(a, key)
    if row == 0:
        return 0
    place = find_entry(a, row, np.uint64(lane), 0)
    return 0 if place < 0 else number(cells[place] & (COPIES | CHILDREN))


@kernel(f"int64({_ARRAYS}, {_KEYS})")
def probes(cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, keys: Keys) -> int:
    """Buckets read to find each of these keys, or to find that it is absent."""
    a = Arrays(cells, directory, lanes, head)
    total = 0
    for key in keys:
        total += buckets_read(a, key)
    return total


@kernel(f"UniTuple(uint64[::1], 3)({_ARRAYS}, int64)", makes_arrays=True)
def collect(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, lane: int
) -> tuple[Keys, Keys, Keys]:
    """All a lane holds, parents before children: keys, their parents (0: none) and their entries.

    Chains stay together. O(rows of the index); parents that form a loop, told by a faulty worker,
    only cost order.
    """
    a = Arrays(cells, directory, lanes, head)
    n_rows = head[N_ROWS]
    words = np.zeros(n_rows + 1, np.uint64)
    n_held = 0
    for row in range(1, n_rows + 1):
        place = -1 if cells[ROW_WORDS * row] == _NONE else find_entry(a, row, np.uint64(lane), 0)
        if place >= 0 and cells[place] & COPIES != _NONE:
            words[row] = cells[place]
            n_held += 1
    order = np.empty(n_held, np.int64)
    is_placed = np.zeros(n_rows + 1, np.uint8)
    n = 0
    for start_row in range(1, n_rows + 1):
        # Climb to the first ancestor that is placed or not held, then turn the climb around.
        row, bottom = start_row, n
        while row != 0 and words[row] != _NONE and not is_placed[row]:
            is_placed[row] = 1
            order[n] = row
            n += 1
            row = number(cells[ROW_WORDS * row + 1] & LOW_32)
        order[bottom:n] = order[bottom:n][::-1].copy()
    keys, parents = np.empty(n, np.uint64), np.zeros(n, np.uint64)
    entries = np.empty(n, np.uint64)
    for i in range(n):
        at = ROW_WORDS * order[i]
        keys[i], entries[i] = cells[at], words[order[i]]
        parents[i] = cells[ROW_WORDS * number(cells[at + 1] & LOW_32)]
    return keys, parents, entries
