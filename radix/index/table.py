"""Kernels of the hash table from keys to rows: extendible hashing over segments of one page.

Own the segments and the directory. A full segment splits in two, which moves at most one page of
slots: there is no rehash of the whole and no pause that grows with it. Within a segment buckets of
eight slots are probed linearly; a bucket that is not full ends a probe, and slots are packed to the
front of their bucket, so an empty slot ends it too. A slot carries 32 bits of the key's hash: all
that placing it needs, so a split reads no rows.
"""

import numpy as np

from radixroute.radix.ids import Arrays
from radixroute.radix.index.arena import number, take_buddy
from radixroute.radix.index.layout import (
    BUCKET_SLOTS,
    BUCKETS,
    DEPTH,
    FULL_AT,
    LOW_32,
    MAX_DEPTH,
    MAX_ORDER,
    N_MOVES,
    N_SEGMENTS,
    PAGE_WORDS,
    PAGES_FROM,
    ROW_WORDS,
    SPLIT_AT,
)
from radixroute.radix.jit import helper, rare_helper
from radixroute.radix.mixing_kernels import finalise_word
from radixroute.radix.prefetch import prefetch

_32 = np.uint64(32)
_BUCKET_MASK = BUCKETS - 1


@helper
def tag_of(key: np.uint64) -> np.uint64:
    """32 well mixed bits (SplitMix64's finaliser): keys of other makers may be anything."""
    return finalise_word(key) >> _32


@helper
def page_of(a: Arrays, tag: np.uint64) -> int:
    """First cell of the segment that a tag belongs to."""
    directory, head = a.directory, a.head
    page: int = directory[number(tag >> np.uint64(32 - head[DEPTH]))]
    return page


@helper
def ask_for(a: Arrays, key: np.uint64) -> None:
    """Asks for the cache line where `seek` will look first."""
    tag = tag_of(key)
    bucket = number(tag) & _BUCKET_MASK
    prefetch(a.cells, page_of(a, tag) + bucket * BUCKET_SLOTS)


@helper
def seek(a: Arrays, key: np.uint64) -> int:
    """The slot that leads to a key's row, or minus the empty slot where it belongs."""
    cells = a.cells
    tag = tag_of(key)
    page = page_of(a, tag)
    bucket = number(tag) & _BUCKET_MASK
    while True:
        at = page + bucket * BUCKET_SLOTS
        for slot in range(at, at + BUCKET_SLOTS):
            word = cells[slot]
            if word == 0:
                return -slot
            if (word >> _32) == tag and cells[ROW_WORDS * number(word & LOW_32)] == key:
                return slot
        bucket = (bucket + 1) & _BUCKET_MASK


@helper
def seek_tag(a: Arrays, key: np.uint64) -> int:
    """The first slot with the key's tag, or minus an empty one; reads no row."""
    cells = a.cells
    tag = tag_of(key)
    page = page_of(a, tag)
    bucket = number(tag) & _BUCKET_MASK
    while True:
        at = page + bucket * BUCKET_SLOTS
        for slot in range(at, at + BUCKET_SLOTS):
            word = cells[slot]
            if word == 0:
                return -slot
            if (word >> _32) == tag:
                return slot
        bucket = (bucket + 1) & _BUCKET_MASK


@helper
def row_at(a: Arrays, slot: int) -> int:
    """The row a slot leads to; 0 for an empty slot's number."""
    return number(a.cells[slot] & LOW_32) if slot > 0 else 0


@helper
def find(a: Arrays, key: np.uint64) -> int:
    """Row of a key, or 0."""
    return row_at(a, seek(a, key))


@helper
def verified(a: Arrays, key: np.uint64, slot: int) -> int:
    """The key's row, given what `seek_tag` found; 0 if it is absent."""
    if slot <= 0:
        return 0
    row = row_at(a, slot)
    # Two keys share a tag once in billions: then look properly.
    return row if a.cells[ROW_WORDS * row] == key else find(a, key)


@helper
def buckets_read(a: Arrays, key: np.uint64) -> int:
    """How many buckets `find` reads for this key: the probes of one operation."""
    cells = a.cells
    tag = tag_of(key)
    page = page_of(a, tag)
    bucket = number(tag) & _BUCKET_MASK
    n_read = 0
    while True:
        n_read += 1
        at = page + bucket * BUCKET_SLOTS
        for slot in range(at, at + BUCKET_SLOTS):
            word = cells[slot]
            if word == 0:
                return n_read
            if (word >> _32) == tag and cells[ROW_WORDS * number(word & LOW_32)] == key:
                return n_read
        bucket = (bucket + 1) & _BUCKET_MASK


@helper
def _put(a: Arrays, page: int, word: np.uint64) -> None:
    cells = a.cells
    bucket = number(word >> _32) & _BUCKET_MASK
    while True:
        at = page + bucket * BUCKET_SLOTS
        for slot in range(at, at + BUCKET_SLOTS):
            if cells[slot] == 0:
                cells[slot] = word
                return
        bucket = (bucket + 1) & _BUCKET_MASK


@helper
def _info_of(cell: int) -> int:
    """Where `directory` says how deep and how full the segment around this cell is."""
    return (1 << MAX_DEPTH) + cell // PAGE_WORDS


@helper
def _info(depth: int, n_slots: int) -> int:
    return (depth << 32) | n_slots


@helper
def _depth(info: int) -> int:
    return info >> 32


@helper
def _n_slots(info: int) -> int:
    return info & 0xFFFFFFFF


@rare_helper
def _split(a: Arrays, tag: np.uint64, page: int) -> bool:
    """One segment into two by the next bit of the tags; False if there is no room for it."""
    cells, directory, head = a.cells, a.directory, a.head
    info = directory[_info_of(page)]
    depth = _depth(info)
    if depth == head[DEPTH] and depth == MAX_DEPTH:
        return False
    other = take_buddy(a, MAX_ORDER)
    if other == 0:
        return False
    if depth == head[DEPTH]:
        for i in range((1 << depth) - 1, -1, -1):
            directory[2 * i] = directory[2 * i + 1] = directory[i]
        head[DEPTH] += 1
    head[N_SEGMENTS] += 1
    head[N_MOVES] += 1
    spare = len(cells) - PAGE_WORDS
    for i in range(PAGE_WORDS):
        cells[spare + i] = cells[page + i]
        cells[page + i] = cells[other + i] = np.uint64(0)
    n_other = 0
    bit = np.uint64(63 - depth)
    for i in range(spare, spare + PAGE_WORDS):
        word = cells[i]
        if word == 0:
            continue
        if (word >> bit) & np.uint64(1):
            _put(a, other, word)
            n_other += 1
        else:
            _put(a, page, word)
    directory[_info_of(page)] = _info(depth + 1, _n_slots(info) - n_other)
    directory[_info_of(other)] = _info(depth + 1, n_other)
    # Those entries of the directory that lead to the old segment and have the bit set.
    span = 1 << (head[DEPTH] - depth)
    first = (number(tag >> np.uint64(32 - head[DEPTH])) // span) * span
    for i in range(first + span // 2, first + span):
        directory[i] = other
    return True


@helper
def place_for(a: Arrays, key: np.uint64, slot: int) -> int:
    """An empty slot for an absent key, 0 if there is no room; `slot` is what `seek` just found.

    Splits a full segment if there is room for another.
    """
    directory = a.directory
    while True:
        page = slot - slot % PAGE_WORDS
        if _n_slots(directory[_info_of(page)]) < SPLIT_AT:
            return slot
        if not _split(a, tag_of(key), page):
            return slot if _n_slots(directory[_info_of(page)]) < FULL_AT else 0
        slot = -seek(a, key)


@helper
def add(a: Arrays, key: np.uint64, slot: int, row: int) -> None:
    """Leads from an absent key to its row; only with a slot of `place_for`."""
    a.cells[slot] = (tag_of(key) << _32) | np.uint64(row)
    a.directory[_info_of(slot)] += 1


@helper
def _close(a: Arrays, page: int, bucket: int, slot: int) -> None:
    """Fills an emptied slot so that every probe still finds what lies behind it."""
    a.head[N_MOVES] += 1
    cells = a.cells
    while True:
        last = page + bucket * BUCKET_SLOTS + BUCKET_SLOTS - 1
        was_full = cells[last] != 0
        while cells[last] == 0:
            last -= 1
        cells[slot] = cells[last]
        cells[last] = np.uint64(0)
        if not was_full:
            return
        # The bucket was full: what overflowed from it, or passed over it, may have to come back.
        slot = last
        there, moved = bucket, -1
        while moved < 0:
            there = (there + 1) & _BUCKET_MASK
            at = page + there * BUCKET_SLOTS
            for i in range(at, at + BUCKET_SLOTS):
                word = cells[i]
                if word == 0:
                    return
                home = number(word >> _32) & _BUCKET_MASK
                if ((there - home) & _BUCKET_MASK) >= ((there - bucket) & _BUCKET_MASK):
                    moved = i
                    break
        cells[slot] = cells[moved]
        bucket, slot = there, moved


@helper
def drop(a: Arrays, slot: int) -> None:
    """Forgets the way from a key to its row."""
    a.directory[_info_of(slot)] -= 1
    page = slot - slot % PAGE_WORDS
    _close(a, page, (slot - page) // BUCKET_SLOTS, slot)


@rare_helper
def open_first(a: Arrays) -> bool:
    """The first segment of an empty index; False if there is no room for one.

    The last page is set aside: a splitting segment is copied there first.
    """
    cells, directory, head = a.cells, a.directory, a.head
    head[PAGES_FROM] -= PAGE_WORDS
    page = take_buddy(a, MAX_ORDER)
    if page == 0:
        return False
    for i in range(page, page + PAGE_WORDS):
        cells[i] = np.uint64(0)
    directory[0] = page
    directory[_info_of(page)] = 0
    head[DEPTH] = 0
    head[N_SEGMENTS] = 1
    return True
