"""The prefix index's entry points in compiled code, each called by `PrefixIndex` alone.

Own no data. Importing this module compiles them, or loads them from the cache. `cells`,
`directory`, `lanes`, `head` are the four arrays of one index (`layout`); a lane is a number that
`PrefixIndex` gives out.
"""

import numpy as np

from radixroute.radix.ids import Arrays, Cells, Directory, Flags, Keys, Lanes, Numbers
from radixroute.radix.index.arena import number
from radixroute.radix.index.changes import drop_retired, let_go
from radixroute.radix.index.entries import entries_of, find_entry
from radixroute.radix.index.layout import (
    CHILDREN,
    COPIES,
    LOW_32,
    N_ROWS,
    PACKED_CLEAR,
    PACKED_HEAD,
    PACKED_KIND,
    PACKED_STORE,
    PACKED_TIER_SHIFT,
    ROW_WORDS,
    SWEEP_ROW,
    UNKNOWN_REMOVALS,
)
from radixroute.radix.index.table import ask_for, buckets_read, find, open_first
from radixroute.radix.index.updates import remove_blocks, store_blocks
from radixroute.radix.jit import kernel, rare_helper

_NONE = np.uint64(0)
_AHEAD = 64
_ARRAYS = "uint64[::1], int64[::1], int64[:, ::1], int64[::1]"
_KEYS = "Array(uint64, 1, 'C', readonly=True)"


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
    """`store_blocks` of all keys."""
    a = Arrays(cells, directory, lanes, head)
    return store_blocks(a, lane, parent, keys, 0, len(keys), tier)


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
    """`remove_blocks` of all keys."""
    a = Arrays(cells, directory, lanes, head)
    return remove_blocks(a, lane, keys, 0, len(keys), tier, is_known)


@rare_helper
def _apply(a: Arrays, lane: int, words: Keys, start: int, stop: int, no_flags: Flags) -> int:
    """Packed events in words `start` to `stop`, up to a clear; returns where it ended."""
    at = start
    while at < stop:
        kind, tier = number(words[at] & PACKED_KIND), number(words[at] >> PACKED_TIER_SHIFT)
        if kind == PACKED_CLEAR:
            return at
        first = at + PACKED_HEAD
        end = first + number(words[at + 2])
        if end < stop:
            # The next event's lines are on their way while this one is applied.
            for i in range(end + PACKED_HEAD, min(end + PACKED_HEAD + _AHEAD, stop)):
                ask_for(a, words[i])
        if kind == PACKED_STORE:
            store_blocks(a, lane, words[at + 1], words, first, end, tier)
        else:
            a.head[UNKNOWN_REMOVALS] += remove_blocks(a, lane, words, first, end, tier, no_flags)
        at = end
    return at


@kernel(f"int64({_ARRAYS}, int64, {_KEYS}, int64, int64[::1], int64[:, ::1], uint8[::1])")
def apply(  # noqa: PLR0913, PLR0917 - the four arrays and some events
    cells: Cells,
    directory: Directory,
    lanes: Lanes,
    head: Numbers,
    lane: int,
    words: Keys,
    start: int,
    lane_of: Numbers,
    rows: Numbers,
    no_flags: Flags,
) -> int:
    """Applies packed events (`packed`) of one lane, from word `start` on; or those of many.

    Of many if there are `rows`, shape (batches, 4): anything, place in `lane_of`, first and end
    word. Returns the word at which it met a clear, where it stops; without one `len(words)`.
    Unknown removals are counted in `head`. One kernel: two would be the same code twice.
    """
    a = Arrays(cells, directory, lanes, head)
    stop = len(words)
    for i in range(max(len(rows), 1)):
        if len(rows) != 0:
            lane, start, stop = lane_of[rows[i, 1]], rows[i, 2], rows[i, 3]
        end = _apply(a, lane, words, start, stop, no_flags)
        if end < stop:
            return end
    return len(words)


@kernel(f"int64({_ARRAYS}, int64)")
def sweep(cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, budget: int) -> int:
    """Goes on with a pass over the rows, taking away the entries of retired lanes.

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
        _, n = entries_of(a, row)
        done += n
        if n != 0 and drop_retired(a, row):
            let_go(a, row, 0)
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
        for i in range((n - bottom) // 2):
            order[bottom + i], order[n - 1 - i] = order[n - 1 - i], order[bottom + i]
    keys, parents = np.empty(n, np.uint64), np.zeros(n, np.uint64)
    entries = np.empty(n, np.uint64)
    for i in range(n):
        at = ROW_WORDS * order[i]
        keys[i], entries[i] = cells[at], words[order[i]]
        parents[i] = cells[ROW_WORDS * number(cells[at + 1] & LOW_32)]
    return keys, parents, entries
