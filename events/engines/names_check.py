"""Proves that a name table's arrays agree with each other: reads them as `names_layout` says.

In plain Python numbers, so that it shares nothing with the kernels but layout and constants.
"""

from collections import Counter
from collections.abc import Iterator

from radixroute.events.engines import names_layout as at
from radixroute.events.errors import LocalEventError
from radixroute.radix.ids import Cells, Numbers
from radixroute.radix.mixing import GAMMA, MASK, finalise_int

_COPIES, _GROUP_SHIFT, _SCOPE_SHIFT = int(at.COPIES), int(at.GROUP_SHIFT), int(at.SCOPE_SHIFT)
_Entry = list[int]


def check_names(cells: Cells, old: Cells, scopes: Cells, head: Numbers) -> None:
    """Raises `LocalEventError`. Slow, for tests."""
    mix, left = int(head[at.MIX]) & MASK, int(head[at.OLD_LEFT])
    entries = list(_entries(cells, int(head[at.BITS]), int(head[at.WIDTH]), mix))
    if left:
        bits, first = int(head[at.OLD_BITS]), int(head[at.OLD_AT])
        _must(first + left == 1 << bits, "an old table's end is not where it ends")
        _must(not any(_is_held(old, i, head) for i in range(first)), "an entry was passed over")
        entries += _entries(old, bits, int(head[at.OLD_WIDTH]), mix)
    names = {(held >> _GROUP_SHIFT & 0xFF, *name) for _, _, held, *name in entries}
    _must(len(names) == len(entries), "a name is there twice")
    _must(len(entries) == int(head[at.N_NAMES]), "names are counted wrongly")
    in_scope = Counter(held >> _SCOPE_SHIFT for _, _, held, *_ in entries)
    in_scope[0] += 1  # the root's is never given up
    counted = {number: n for number, n in enumerate(scopes[:, 2].tolist()) if n}
    _must(counted == dict(in_scope), "blocks of a scope are counted wrongly")


def _is_held(old: Cells, slot: int, head: Numbers) -> bool:
    return bool(int(old[slot * int(head[at.OLD_WIDTH]) + at.HELD]) & _COPIES)


def _entries(cells: Cells, bits: int, width: int, mix: int) -> Iterator[_Entry]:
    """Those that hold something, their names in four words; raises if a search would miss one."""
    size = 1 << bits
    _must(len(cells) == size * width, "a table has another size than it says")
    rows = cells.reshape(size, width)
    for slot in rows[:, at.HELD].nonzero()[0].tolist():
        row = rows[slot].tolist()
        if not row[at.HELD] & _COPIES:
            continue
        name = [*row[at.NAME : at.NAME + 4], 0, 0, 0][:4]
        home = _mixed(name, mix) >> (64 - bits)
        way = [(home + i) % size for i in range((slot - home) % size)]
        _must(bool(rows[way, at.HELD].all()), "a search would end before an entry")
        yield [*row[: at.NAME], *name]


def _mixed(name: list[int], mix: int) -> int:
    z = name[0] ^ mix
    for i in range(1, 4):
        z += name[i] * (GAMMA + 2 * i)
    return finalise_int(z)


def _must(holds: bool, claim: str) -> None:
    if not holds:
        raise LocalEventError(f"name table: {claim}")
