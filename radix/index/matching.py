"""Kernels that read the index: the longest leading run of blocks that each lane holds.

A lane without holes that holds block i holds all blocks before it, so the sets of such lanes only
shrink along a prompt and a few probes find where they do. That needs true parents, and events may
name others; a prompt knows them. So only blocks that are proven are jumped to: those whose parents,
all the way up, a prompt has shown to be right. The first prompt over new blocks climbs from them to
those that are proven; where that fails it goes block by block, and doubts the one whose parent it
refutes. Lanes with holes, and those that hold a doubted block, are followed block by block. Beside
proofs and doubts nothing is changed.
"""

import numpy as np

from radixroute.radix.ids import Arrays, Cells, Directory, Keys, Lanes, Numbers, Runs
from radixroute.radix.index.arena import number
from radixroute.radix.index.changes import copies_in
from radixroute.radix.index.entries import entries_of
from radixroute.radix.index.layout import (
    COPIES,
    GUESSES,
    HOLES,
    LANE_SHIFT,
    MAX_GUESSES,
    N_DIRTY,
    N_LANES,
    N_SLOW,
    N_UNSWEPT,
    NOTES,
    OUT_ROWS,
    PAIRS,
    ROW_WORDS,
)
from radixroute.radix.index.proofs import has_climbed, is_after, is_proven, refute, trust
from radixroute.radix.index.table import ask_for, find, row_at, seek_tag, verified
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.radix.prefetch import prefetch

_NONE = np.uint64(0)
_ARRAYS = "uint64[::1], int64[::1], int64[:, ::1], int64[::1]"
_KEYS = "Array(uint64, 1, 'C', readonly=True)"
# Where `head` notes things: a stack of sets of holders met beyond, with the lowest and the highest
# place where each was seen, the row there and its size; then a round of probes.
_MAX_STACK = 56
LOWS, HIGHS = NOTES, NOTES + _MAX_STACK
ROWS, SIZES = NOTES + 2 * _MAX_STACK, NOTES + 3 * _MAX_STACK
PROBED, FOUND = NOTES + 4 * _MAX_STACK, NOTES + 4 * _MAX_STACK + 16
N_PROBES, _MOST_PROBED = 7, 16


@helper
def _is_dirty(a: Arrays, lane: int) -> bool:
    return bool(a.lanes[lane, HOLES] != 0)


@helper
def _n_clean(a: Arrays, row: int, is_clean: bool) -> int:
    """How many living lanes without holes hold this block."""
    cells, head = a.cells, a.head
    first, n = entries_of(a, row)
    if is_clean:
        return n
    n_clean = 0
    for place in range(first, first + n):
        word = cells[place]
        lane = number(word >> LANE_SHIFT)
        is_held = word & COPIES != _NONE
        if is_held and head[OUT_ROWS + lane] >= 0 and not _is_dirty(a, lane):
            n_clean += 1
    return n_clean


@helper
def _set_clean(a: Arrays, row: int, out: Runs, run: int, is_clean: bool) -> None:
    """`run` for every living lane without holes that holds this block."""
    cells, head = a.cells, a.head
    first, n = entries_of(a, row)
    if is_clean:
        for place in range(first, first + n):
            out[head[OUT_ROWS + number(cells[place] >> LANE_SHIFT)]] = run
        return
    for place in range(first, first + n):
        word = cells[place]
        lane = number(word >> LANE_SHIFT)
        is_living = head[OUT_ROWS + lane] >= 0
        if is_living and word & COPIES != _NONE and not _is_dirty(a, lane):
            out[head[OUT_ROWS + lane]] = run


@helper
def _choose(a: Arrays, low: int, high: int) -> int:
    """Up to seven places between two, evenly; notes them and returns how many."""
    n = min(N_PROBES, high - low - 1)
    for i in range(n):
        a.head[PROBED + i] = low + (high - low) * (i + 1) // (n + 1)
    return max(n, 0)


@helper
def _choose_first(a: Arrays, n_keys: int, guess: int) -> int:
    """The guess and the block after it, the prompt's end, and places between them."""
    head = a.head
    last = n_keys - 1
    if last < 1:
        return 0
    n, low = 0, 0
    if guess + 1 < last:
        if guess > 0:
            head[PROBED] = guess
            n = 1
        head[PROBED + n] = low = guess + 1
        n += 1
    between = min(N_PROBES - 1 - n, last - low - 1)
    for i in range(between):
        head[PROBED + n] = low + (last - low) * (i + 1) // (between + 1)
        n += 1
    head[PROBED + n] = last
    return n + 1


@helper
def _probe(a: Arrays, keys: Keys, n: int) -> None:
    """Notes the rows of the chosen places, 0 where absent; their misses wait together."""
    head = a.head
    for i in range(n):
        ask_for(a, keys[head[PROBED + i]])
    for i in range(n):
        slot = seek_tag(a, keys[head[PROBED + i]])
        head[FOUND + i] = slot
        prefetch(a.cells, ROW_WORDS * row_at(a, slot))
    for i in range(n):
        head[FOUND + i] = verified(a, keys[head[PROBED + i]], head[FOUND + i])


@helper
def _size_at(a: Arrays, keys: Keys, place: int, row: int, is_clean: bool) -> int:
    """`_n_clean` of the row at `place`, 0: none; -1 if its parents, or theirs, are not proven."""
    if row == 0:
        return 0
    size = _n_clean(a, row, is_clean)
    # Who has no holes holds what is above: those rows are there, to be climbed.
    if is_proven(a, row) or (size != 0 and has_climbed(a, keys, place, row)):
        return size
    return -1


@helper
def _gallop(
    a: Arrays, keys: Keys, out: Runs, row: int, n_here: int, is_clean: bool
) -> tuple[int, int]:
    """Finds each place where the set shrinks, eight times closer with each round of probes.

    Blocks that are not proven are held by nobody here. If it met one: the last place where the set
    is not empty and the row there; otherwise -1 and a row.

    `head` keeps a stack of places beyond, with smaller sets, for the changes that come after.
    """
    head = a.head
    # Beyond the prompt nobody holds anything.
    head[LOWS] = head[HIGHS] = len(keys)
    head[ROWS] = head[SIZES] = 0
    top, here = 0, 0
    guess_at = GUESSES + row % MAX_GUESSES
    n_probes = _choose_first(a, len(keys), head[guess_at])
    is_first, last, has_unproven = True, 0, False
    last_row = row
    while n_here > 0:
        while n_probes > 0:
            _probe(a, keys, n_probes)
            for i in range(n_probes - 1, -1, -1):
                place, there = head[PROBED + i], head[FOUND + i]
                size = _size_at(a, keys, place, there, is_clean)
                if size < 0:
                    size, has_unproven = 0, True
                if size == n_here:
                    here, row = place, there
                    break
                if size != head[SIZES + top]:
                    top += 1
                    head[HIGHS + top], head[ROWS + top], head[SIZES + top] = place, there, size
                head[LOWS + top] = place
            n_probes = _choose(a, here, head[LOWS + top])
        _set_clean(a, row, out, here + 1, is_clean)
        last, last_row = here, row
        if is_first:
            head[guess_at] = here
            is_first = False
        here, row, n_here = head[HIGHS + top], head[ROWS + top], head[SIZES + top]
        top -= 1
        if top >= 0:
            n_probes = _choose(a, here, head[LOWS + top])
    return last if has_unproven else -1, last_row


@rare_helper
def _has_proven(a: Arrays, keys: Keys, out: Runs, row: int, start: int) -> bool:
    """Proves the blocks from `start` on, after the proven `row`, as far as they are right.

    False if there were none: then no lane without holes holds the block at `start`.
    """
    head = a.head
    has_proven = False
    place = start
    while place < len(keys):
        n = min(_MOST_PROBED, len(keys) - place)
        for i in range(n):
            head[PROBED + i] = place + i
        _probe(a, keys, n)
        for i in range(n):
            above, row = row, head[FOUND + i]
            if row == 0:
                return has_proven
            if is_proven(a, row):
                if place + i == start:
                    return False
            elif is_after(a, row, above):
                trust(a, row)
                has_proven = True
            else:
                refute(a, out, row)
                return has_proven
        place += n
    return has_proven


@helper
def _walk(a: Arrays, keys: Keys, out: Runs, row: int) -> None:
    """Lanes with holes, block by block until none of them goes on."""
    cells, head = a.cells, a.head
    goes_on = is_proven(a, row)
    for i in range(len(keys)):
        if i > 0:
            above = row
            row = find(a, keys[i])
            if row == 0:
                return
            if goes_on and not is_proven(a, row):
                goes_on = is_after(a, row, above)
                if goes_on:
                    trust(a, row)
        n_on = 0
        first, n = entries_of(a, row)
        for place in range(first, first + n):
            word = cells[place]
            lane = number(word >> LANE_SHIFT)
            at = head[OUT_ROWS + lane]
            # Who was matched already does not hold the block behind its run.
            if word & COPIES != _NONE and at >= 0 and out[at] == i:
                out[at] = i + 1
                n_on += 1
        if n_on == 0:
            return


@kernel(f"int64({_ARRAYS}, {_KEYS}, int32[::1])")
def match(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, keys: Keys, out: Runs
) -> int:
    """Length of the run of each holder into zeroed `out`, at its lane's place in OUT_ROWS.

    Returns how many lanes have blocks off the device: `split_by_tier` is for them.
    """
    a = Arrays(cells, directory, lanes, head)
    n = len(keys)
    if n == 0:
        return 0
    # What the first round will look at besides the first block: its lines come meanwhile.
    for i in range(N_PROBES):
        prefetch(keys, (n - 1) * (i + 1) // N_PROBES)
    ask_for(a, keys[0])
    ask_for(a, keys[n - 1])
    first = find(a, keys[0])
    if first == 0:
        return 0
    if not is_proven(a, first):
        if is_after(a, first, 0):
            trust(a, first)
        else:
            refute(a, out, first)
    goes_on = is_proven(a, first)
    while goes_on:
        is_clean = head[N_DIRTY] == 0 and head[N_UNSWEPT] == 0
        n_clean = _n_clean(a, first, is_clean)
        if n_clean == 0:
            break
        place, row = _gallop(a, keys, out, first, n_clean, is_clean)
        goes_on = place >= 0 and _has_proven(a, keys, out, row, place + 1)
    if head[N_DIRTY]:
        _walk(a, keys, out, first)
    n_slow: int = head[N_SLOW]
    return n_slow


@kernel(
    f"int32[:, ::1]({_ARRAYS}, {_KEYS}, Array(int32, 1, 'C', readonly=True))", makes_arrays=True
)
def split_by_tier(
    cells: Cells, directory: Directory, lanes: Lanes, head: Numbers, keys: Keys, runs: Runs
) -> Runs:
    """Blocks of each run by their fastest tier, shape (runs, 3). O(longest run of a slow lane)."""
    a = Arrays(cells, directory, lanes, head)
    tiers = np.zeros((len(runs), 3), np.int32)
    for i in range(len(runs)):
        tiers[i, 0] = runs[i]
    longest = 0
    for lane in range(1, head[N_LANES] + 1):
        row = head[OUT_ROWS + lane]
        if row >= 0 and lanes[lane, PAIRS + 1] + lanes[lane, PAIRS + 2] > 0:
            longest = max(longest, runs[row])
    for i in range(longest):
        first, n = entries_of(a, find(a, keys[i]))
        for place in range(first, first + n):
            word = cells[place]
            row = head[OUT_ROWS + number(word >> LANE_SHIFT)]
            if row < 0 or i >= runs[row] or copies_in(word, 0) != _NONE:
                continue
            tiers[row, 0] -= 1
            tiers[row, 1 if copies_in(word, 1) != _NONE else 2] += 1
    return tiers
