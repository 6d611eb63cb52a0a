"""Proves that the arrays of a prefix index agree with each other: reads them as `layout` says.

Written in plain Python over dicts, sharing no code with the kernels. For tests and for whoever
suspects the index; slow.
"""

from collections import Counter

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Cells, Directory, Lanes, Numbers
from radixroute.radix.index import layout as at

_LOW_32 = 0xFFFFFFFF
_MOST = 0xFFFFFF  # child rows, or children: no longer counted


class _Row:
    """One row, read."""

    def __init__(self, cells: Cells, row: int) -> None:
        key, flags, word = (
            int(one) for one in cells[at.ROW_WORDS * row : at.ROW_WORDS * (row + 1)]
        )
        self.row, self.key = row, key
        self.parent = flags & _LOW_32
        self.n_child_rows = (flags >> 32) & 0xFFFFFF
        self.is_known = bool(flags & int(at.PARENT_KNOWN))
        self.is_doubted = bool(flags & int(at.DOUBTED))
        self.is_proven = bool(flags & int(at.PROVEN))
        self.buddy: tuple[int, int] | None = None
        words = [word] if word else []
        if flags & int(at.POOLED):
            first, n, order = word & int(at.POSITION), (word >> 40) & 0xFFFF, word >> 56
            _must(2 <= n <= 1 << order, "a buddy has too few or too many entries")
            self.buddy = (first, order)
            words = [int(one) for one in cells[first : first + n]]
        self.entries = {one >> 50: one for one in words}
        _must(len(self.entries) == len(words), "two entries of one lane in a row")

    def holds(self, lane: int) -> bool:
        return bool(self.entries.get(lane, 0) & int(at.COPIES))

    def children(self, lane: int) -> int:
        return self.entries.get(lane, 0) & int(at.CHILDREN)


def check_arrays(cells: Cells, directory: Directory, lanes: Lanes, head: Numbers) -> None:
    """Raises `BrokenInvariant` naming what is wrong."""
    rows = {
        row: _Row(cells, row)
        for row in range(1, int(head[at.N_ROWS]) + 1)
        if cells[at.ROW_WORDS * row]
    }
    _must(len(rows) == head[at.N_USED_ROWS], "used rows are miscounted")
    _check_table(rows, cells, directory, head)
    _check_links(rows)
    _check_entries(rows, lanes, head)
    _check_buddies(rows, cells, head)


def _check_table(rows: dict[int, _Row], cells: Cells, directory: Directory, head: Numbers) -> None:
    depth = int(head[at.DEPTH])
    pages = [int(page) for page in directory[: 1 << depth]]
    _must(len(set(pages)) == head[at.N_SEGMENTS], "segments are miscounted")
    found: Counter[int] = Counter()
    for page in set(pages):
        slots = [int(word) for word in cells[page : page + at.PAGE_WORDS] if word]
        info = int(directory[(1 << at.MAX_DEPTH) + page // at.PAGE_WORDS])
        _must(info & _LOW_32 == len(slots), "a segment's slots are miscounted")
        _must(pages.count(page) == 1 << (depth - (info >> 32)), "a segment's depth is wrong")
        for word in slots:
            _must(pages[(word >> 32) >> (32 - depth)] == page, "a slot is in the wrong segment")
            found[word & _LOW_32] += 1
    _must(found == Counter(list(rows)), "the table leads to other rows")
    keys = {row.key for row in rows.values()}
    _must(len(keys) == len(rows), "a key has two rows")


def _check_links(rows: dict[int, _Row]) -> None:
    child_rows: Counter[int] = Counter()
    for row in rows.values():
        if row.parent:
            _must(row.parent in rows, "a parent's row is gone")
            child_rows[row.parent] += 1
    for number, row in rows.items():
        is_counted = row.n_child_rows < _MOST
        _must(not is_counted or row.n_child_rows == child_rows[number], "child rows are miscounted")
        _must(bool(row.entries or row.n_child_rows), "a row nobody needs")
        above = rows.get(row.parent)
        is_right = row.is_known and (above is None or above.is_proven or above.is_doubted)
        _must(is_right or not row.is_proven, "a proven block follows one that is not")
        is_ghost = not row.entries
        _must(not (is_ghost and row.is_known), "a row without entries keeps its parent")


def _check_entries(rows: dict[int, _Row], lanes: Lanes, head: Numbers) -> None:
    children: Counter[tuple[int, int]] = Counter()
    n_entries: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for row in rows.values():
        for lane, word in row.entries.items():
            n_entries[lane] += 1
            children[row.parent, lane] += row.holds(lane) and row.parent != 0
            for tier, copies in enumerate((word >> 40 & 1023, word >> 32 & 255, word >> 24 & 255)):
                pairs[lane, tier] += copies > 0
    live = _live_lanes(lanes, head)
    _check_children(rows, lanes, live, children)
    for lane in live:
        _must(lanes[lane, at.N_ENTRIES] == n_entries[lane], "entries are miscounted")
        counted = [int(n) for n in lanes[lane, at.PAIRS : at.PAIRS + 3]]
        _must(counted == [pairs[lane, tier] for tier in range(3)], "pairs are miscounted")
    dirty = [lane for lane in live if lanes[lane, at.HOLES]]
    _must(len(dirty) == head[at.N_DIRTY], "lanes with holes are miscounted")
    slow = [lane for lane in live if pairs[lane, 1] or pairs[lane, 2]]
    _must(len(slow) == head[at.N_SLOW], "lanes with slower tiers are miscounted")
    unswept = sum(n for lane, n in n_entries.items() if lanes[lane, at.STATE] != at.LIVE)
    _must(unswept == head[at.N_UNSWEPT], "what is to be swept is miscounted")
    free = [lane for lane in n_entries if lanes[lane, at.STATE] == at.FREE_LANE]
    _must(not free, "a free lane has entries")


def _live_lanes(lanes: Lanes, head: Numbers) -> set[int]:
    used = lanes[: int(head[at.N_LANES]) + 1, at.STATE]
    return {int(lane) for lane in (used == at.LIVE).nonzero()[0]}


def _check_children(
    rows: dict[int, _Row], lanes: Lanes, live: set[int], children: Counter[tuple[int, int]]
) -> None:
    holes: Counter[int] = Counter()
    for number, row in rows.items():
        for lane in live & row.entries.keys():
            is_counted = row.children(lane) < _MOST
            right = not is_counted or row.children(lane) == children[number, lane]
            _must(right, "children are miscounted")
            holes[lane] += not is_counted
            _must(row.holds(lane) or row.children(lane) > 0, "an empty entry")
            holes[lane] += 0 if row.holds(lane) else row.children(lane)
            holes[lane] += row.holds(lane) and row.is_doubted
    for lane in live:
        _must(lanes[lane, at.HOLES] == holes[lane], "holes are miscounted")


def _check_buddies(rows: dict[int, _Row], cells: Cells, head: Numbers) -> None:
    used = np.zeros(len(cells), np.bool_)
    used[: at.ROW_WORDS * (int(head[at.N_ROWS]) + 1)] = True
    taken = [row.buddy for row in rows.values() if row.buddy is not None]
    n_free = 0
    for order in range(at.MAX_ORDER + 1):
        place = int(head[at.FREE_BUDDY + order])
        before = 0
        while place:
            _must(int(cells[place]) >> 40 == order + 1, "a free buddy is not marked")
            _must(int(cells[place + 1]) == before, "free buddies are badly linked")
            taken.append((place, order))
            n_free += 1 << order
            before, place = place, int(cells[place]) & int(at.POSITION)
    _must(n_free == head[at.N_FREE_WORDS], "free words are miscounted")
    for first, order in taken:
        span = used[first : first + (1 << order)]
        _must(first >= head[at.PAGES_FROM] and not span.any(), "buddies overlap")
        span[:] = True
    n_pages = (len(cells) - int(head[at.PAGES_FROM])) // at.PAGE_WORDS
    pages = int(head[at.N_SEGMENTS]) + 1  # and the one set aside for splitting
    words = sum(1 << order for _, order in taken) + pages * at.PAGE_WORDS
    _must(words == n_pages * at.PAGE_WORDS, "words of pages are lost")


def _must(holds: bool, claim: str) -> None:
    if not holds:
        raise BrokenInvariant(f"prefix index: {claim}")
