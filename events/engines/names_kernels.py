"""Kernels of a name table: which block each engine hash stands for.

Open addressing over entries (`names_layout`), probed linearly. `old` is the smaller table that was:
each store moves a few of its entries on, so growing never pauses. Places follow the order of mixed
names, so that moving reads and writes one line after the other.
"""

from typing import NamedTuple

import numpy as np

from radixroute.events.engines.names_layout import (
    BITS,
    CONFLICT,
    COPIES,
    DEAD,
    GROUP_MASK,
    GROUP_SHIFT,
    HELD,
    MIX,
    MOST_COPIES,
    N_NAMES,
    NAME,
    NARROW,
    OLD_AT,
    OLD_BITS,
    OLD_LEFT,
    OLD_WIDTH,
    ON_DEVICE,
    ONE_COPY,
    PARENT,
    SCOPE_SHIFT,
    STORED,
    TOLD,
    WIDE,
    WIDTH,
)
from radixroute.radix.ids import Cells, Keys, Numbers
from radixroute.radix.index.arena import number
from radixroute.radix.jit import helper, kernel, rare_helper
from radixroute.radix.mixing_kernels import GAMMA_WORD, finalise_word
from radixroute.radix.prefetch import prefetch

# Entries of the old table that are looked at for each block stored. Two would do.
_MOVED_A_BLOCK = 8

_NONE = np.uint64(0)
AHEAD = 64


class Names(NamedTuple):
    """The arrays of one table. `scopes`: a row each, the two words of its seed, its blocks."""

    cells: Cells
    old: Cells
    scopes: Cells
    head: Numbers


@helper
def _mixed(t: Names, words: Cells, at: int, n: int) -> np.uint64:
    """Where a name belongs, as 64 bits. Words that are 0 change nothing: widths agree."""
    z = words[at] ^ np.uint64(t.head[MIX])
    for i in range(1, n):
        z += words[at + i] * (GAMMA_WORD + np.uint64(2 * i))
    return finalise_word(z)


@helper
def _group(held: np.uint64) -> int:
    return number((held >> GROUP_SHIFT) & GROUP_MASK)


@helper
def _is_named(cells: Cells, place: int, width: int, words: Cells, at: int, n: int) -> bool:
    if cells[place + NAME] != words[at]:
        return False
    for i in range(1, 4 if width == WIDE else n):
        here = cells[place + NAME + i] if width == WIDE else _NONE
        if here != (words[at + i] if i < n else _NONE):
            return False
    return True


@helper
def _seek(  # noqa: PLR0913, PLR0917 - a table and a name
    cells: Cells, bits: int, width: int, mixed: np.uint64, words: Cells, at: int, n: int, group:
    int,
) -> int:  # fmt: skip
    """The place of a name's entry, or -1 - the empty place where it belongs."""
    mask = (1 << bits) - 1
    slot = number(mixed >> np.uint64(64 - bits))
    while True:
        place = slot * width
        held = cells[place + HELD]
        if held == _NONE:
            return -1 - place
        is_held = held & COPIES != _NONE and _group(held) == group
        if is_held and _is_named(cells, place, width, words, at, n):
            return place
        slot = (slot + 1) & mask


@helper
def _move(t: Names, old_place: int, place: int) -> None:
    """An entry of the old table to an empty place of the new one."""
    cells, old, head = t.cells, t.old, t.head
    old_width = head[OLD_WIDTH]
    for i in range(old_width):
        cells[place + i] = old[old_place + i]
    for i in range(old_width, head[WIDTH]):
        cells[place + i] = _NONE
    old[old_place + HELD] = DEAD


@rare_helper
def move_on(t: Names, n: int) -> None:
    """Looks at up to `n` places of the old table and moves what is there."""
    cells, old, head = t.cells, t.old, t.head
    n = min(n, head[OLD_LEFT])
    width, old_width = head[WIDTH], head[OLD_WIDTH]
    mask = (1 << head[BITS]) - 1
    for _ in range(n):
        old_place = head[OLD_AT] * old_width
        head[OLD_AT] += 1
        head[OLD_LEFT] -= 1
        if old[old_place + HELD] & COPIES == _NONE:
            continue
        mixed = _mixed(t, old, old_place + NAME, 1 if old_width == NARROW else 4)
        slot = number(mixed >> np.uint64(64 - head[BITS]))
        while cells[slot * width + HELD] != _NONE:
            slot = (slot + 1) & mask
        _move(t, old_place, slot * width)


@helper
def find(t: Names, words: Cells, at: int, n: int, group: int) -> int:
    """The place of the entry of the name at `words[at]`, or -1 - the place where it belongs.

    What is found in the old table has moved then.
    """
    head = t.head
    mixed = _mixed(t, words, at, n)
    place = _seek(t.cells, head[BITS], head[WIDTH], mixed, words, at, n, group)
    if place >= 0 or head[OLD_LEFT] == 0:
        return place
    old_place = _seek(t.old, head[OLD_BITS], head[OLD_WIDTH], mixed, words, at, n, group)
    if old_place < 0:
        return place
    _move(t, old_place, -1 - place)
    return -1 - place


@helper
def ask_for(t: Names, words: Cells, start: int, n: int, n_names: int) -> None:
    """Asks for the lines where these names will be looked for; their misses wait together."""
    head = t.head
    for i in range(n_names):
        mixed = _mixed(t, words, start + i * n, n)
        prefetch(t.cells, number(mixed >> np.uint64(64 - head[BITS])) * head[WIDTH])
        if head[OLD_LEFT] != 0:
            prefetch(t.old, number(mixed >> np.uint64(64 - head[OLD_BITS])) * head[OLD_WIDTH])


@helper
def copies_of(held: np.uint64, tier: int) -> int:
    """Copies in one tier."""
    shift = np.uint64(0) if tier == 0 else np.uint64(12) if tier == 1 else np.uint64(22)
    return number((held >> shift) & np.uint64(MOST_COPIES))


@helper
def _one_copy(tier: int) -> np.uint64:
    if tier == 0:
        return np.uint64(1)
    return np.uint64(1 << 12) if tier == 1 else np.uint64(1 << 22)


@rare_helper
def _erase(t: Names, place: int) -> None:
    """Takes an entry away; those behind it that it kept from their places move up."""
    cells, head = t.cells, t.head
    width, mask = head[WIDTH], (1 << head[BITS]) - 1
    n = 1 if width == NARROW else 4
    t.scopes[number(cells[place + HELD] >> SCOPE_SHIFT), 2] -= np.uint64(1)
    head[N_NAMES] -= 1
    hole = place // width
    slot = hole
    while True:
        slot = (slot + 1) & mask
        at = slot * width
        if cells[at + HELD] == _NONE:
            break
        home = number(_mixed(t, cells, at + NAME, n) >> np.uint64(64 - head[BITS]))
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            for i in range(width):
                cells[hole * width + i] = cells[at + i]
            hole = slot
    cells[hole * width + HELD] = _NONE


@helper
def _is_told(t: Names, held: np.uint64, tier: int) -> bool:
    """Another copy would not be counted: there is none, by the rule, or too many are."""
    n = copies_of(held, tier)
    return n == MOST_COPIES or (n != 0 and t.head[ONE_COPY] != 0)


@helper
def _add_copy(t: Names, place: int, tier: int) -> None:
    t.cells[place + HELD] += _one_copy(tier)
    if tier == 0:
        t.head[ON_DEVICE] += 1


@helper
def _drop_copy(t: Names, place: int, tier: int) -> None:
    """Only where there is one. The last one takes the name along."""
    if tier == 0:
        t.head[ON_DEVICE] -= 1
    held = t.cells[place + HELD] - _one_copy(tier)
    if held & COPIES == _NONE:
        _erase(t, place)
    else:
        t.cells[place + HELD] = held


@rare_helper
def store(  # noqa: PLR0913, PLR0917 - one event
    t: Names, words: Cells, start: int, n: int, group: int, parent: np.uint64, keys: Keys, first:
    int, end: int, scope: int, tier: int,
) -> int:  # fmt: skip
    """One copy more of each of a chain, or nothing and why not.

    Names of `n` words from `words[start]` on; their keys from `first` to `end`. There must be room.
    """
    cells, head, width = t.cells, t.head, t.head[WIDTH]
    above = parent
    said = STORED
    i = first
    while i < end:
        if (i - first) % AHEAD == 0:
            n_ahead = min(AHEAD, end - i)
            move_on(t, _MOVED_A_BLOCK * n_ahead)
            ask_for(t, words, start + (i - first) * n, n, n_ahead)
        at = start + (i - first) * n
        place = find(t, words, at, n, group)
        if place < 0:
            place = -1 - place
            cells[place], cells[place + PARENT] = keys[i], above
            cells[place + HELD] = (np.uint64(group) << GROUP_SHIFT) | (
                np.uint64(scope) << SCOPE_SHIFT
            )
            _add_copy(t, place, tier)
            for k in range(width - NAME):
                cells[place + NAME + k] = words[at + k] if k < n else _NONE
            t.scopes[scope, 2] += np.uint64(1)
            head[N_NAMES] += 1
        elif cells[place] != keys[i]:
            said = CONFLICT
            break
        elif _is_told(t, cells[place + HELD], tier):
            said = TOLD
            break
        else:
            _add_copy(t, place, tier)
        above = keys[i]
        i += 1
    if said != STORED:
        # As it was: also what was stored twice, for a name that repeats meets another key.
        for j in range(i - 1, first - 1, -1):
            _drop_copy(t, find(t, words, start + (j - first) * n, n, group), tier)
    return said


@rare_helper
def remove(  # noqa: PLR0913, PLR0917 - one event
    t: Names, words: Cells, start: int, n: int, group: int, n_names: int, tier: int, keys: Keys,
    first: int,
) -> int:  # fmt: skip
    """One copy less of each that has one there; returns where their keys, from `first` on, end.

    Of as many copies as are counted none goes: there may be more.
    """
    end = first
    for i in range(n_names):
        at = start + i * n
        if i % AHEAD == 0:
            ask_for(t, words, at, n, min(AHEAD, n_names - i))
        place = find(t, words, at, n, group)
        n_copies = 0 if place < 0 else copies_of(t.cells[place + HELD], tier)
        if n_copies not in (0, MOST_COPIES):
            keys[end] = t.cells[place]
            end += 1
            _drop_copy(t, place, tier)
    return end


_TABLE = "uint64[::1], uint64[::1], uint64[:, ::1], int64[::1]"
_WORDS = "Array(uint64, 1, 'C', readonly=True)"


@kernel(f"int64({_TABLE}, {_WORDS}, int64)")
def place_of(
    cells: Cells, old: Cells, scopes: Cells, head: Numbers, name: Cells, group: int
) -> int:
    """The place of a name's entry in `cells`; negative: it is not held."""
    return find(Names(cells, old, scopes, head), name, 0, len(name), group)


@kernel(f"int64({_TABLE}, {_WORDS}, int64, int64)")
def told_at(  # noqa: PLR0913, PLR0917 - the table and one name
    cells: Cells, old: Cells, scopes: Cells, head: Numbers, name: Cells, group: int, tier: int
) -> int:  # fmt: skip
    """The place of a name's entry in `cells` if it would get no further copy there; else -1."""
    t = Names(cells, old, scopes, head)
    place = find(t, name, 0, len(name), group)
    return place if place >= 0 and _is_told(t, cells[place + HELD], tier) else -1


@kernel(f"int64({_TABLE}, {_WORDS}, int64, int64, uint64, {_WORDS}, int64, int64)")
def store_names(  # noqa: PLR0913, PLR0917 - the table and one event
    cells: Cells, old: Cells, scopes: Cells, head: Numbers,
    names: Cells, n: int, group: int, parent: np.uint64, keys: Keys, scope: int, tier: int,
) -> int:  # fmt: skip
    """`store` of all keys."""
    t = Names(cells, old, scopes, head)
    return store(t, names, 0, n, group, parent, keys, 0, len(keys), scope, tier)


@kernel(f"int64({_TABLE}, {_WORDS}, int64, int64, int64, uint64[::1])")
def remove_names(  # noqa: PLR0913, PLR0917 - the table and one event
    cells: Cells, old: Cells, scopes: Cells, head: Numbers,
    names: Cells, n: int, group: int, tier: int, keys: Keys,
) -> int:  # fmt: skip
    """`remove` of all names, their keys into `keys`; returns how many."""
    t = Names(cells, old, scopes, head)
    return remove(t, names, 0, n, group, len(names) // n, tier, keys, 0)


@kernel(f"void({_TABLE}, int64)")
def move(cells: Cells, old: Cells, scopes: Cells, head: Numbers, n: int) -> None:
    """`move_on`."""
    move_on(Names(cells, old, scopes, head), n)
