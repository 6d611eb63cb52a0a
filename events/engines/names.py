"""What a foreign engine's hashes stand for: (group, engine hash) -> block, with copies by tier.

Owned by one `EngineAdapter`. Flat arrays and compiled kernels (`names_kernels`), so that a batch is
translated in one call: 51 to 102 bytes a block, twice that for whole digests. Names are compared
whole. Growing moves names over a few at a time; beyond `max_bytes` no further name is taken.
"""

import contextlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radixroute.events.engines import names_layout as at
from radixroute.events.engines.flat import FlatEvents
from radixroute.events.engines.foreign import EngineHash
from radixroute.events.engines.scope_book import ScopeBook
from radixroute.radix.ids import BlockKey, Cells, Keys, Tier
from radixroute.radix.keys.block_keys import siphash_key
from radixroute.radix.keys.scope import Scope

DEFAULT_BYTES = 1 << 30  # 20 million blocks, or 10 million by whole digests
_FIRST_BITS = 10
_PAGE_WORDS = 1 << 18  # of a large page
_NAMES_A_PAGE = 1024  # five thousand would do
_NO_WORDS = np.empty(0, np.uint64)
_WORD = 1 << 64
Group = int | None


@dataclass(frozen=True, slots=True)
class Named:
    """One block, as it is remembered."""

    key: BlockKey
    parent: BlockKey | None
    scope: Scope


class NameTable:
    """Blocks held in at least one tier, and nothing else.

    `root` is the scope of prompts that bring none of their own. Groups are numbers up to
    `names_layout.MAX_GROUP`.
    """

    def __init__(self, root: Scope, max_bytes: int = DEFAULT_BYTES) -> None:
        from radixroute.events.engines import (
            names_kernels,
            translate_kernels,  # here: they import numba
        )

        self._kernels: Any = names_kernels
        self._translate = translate_kernels.translate
        self._root = root
        self._max_bytes = max_bytes
        self._out_of_groups = 0
        self._one_copy = False
        self._head = np.zeros(at.HEAD_LEN, np.int64)
        self.clear()

    def __len__(self) -> int:
        return int(self._head[at.N_NAMES])

    @property
    def n_on_device(self) -> int:
        """Copies there, of all names."""
        return int(self._head[at.ON_DEVICE])

    @property
    def n_bytes(self) -> int:
        """Bytes set aside for names: the table, the one that was and the one that will be."""
        return self._cells.nbytes + self._old.nbytes + self._next.nbytes

    def clear(self) -> None:
        """The engine emptied its cache."""
        self._old = self._next = _NO_WORDS
        self._head = head = np.zeros(at.HEAD_LEN, np.int64)
        self._open(_FIRST_BITS, at.NARROW)
        head[at.BLOCK_SIZE] = self._root.block_size
        head[at.OUT_OF_GROUPS], head[at.ONE_COPY] = self._out_of_groups, self._one_copy
        head[at.MIX] = np.uint64(siphash_key(self._root.seed)[1]).astype(np.int64)
        self._scopes = ScopeBook(self._root)

    def keep_one_copy(self) -> None:
        """Forgets what is held; from now on what is held in a tier has one copy there."""
        self._one_copy = True
        self.clear()

    def leave_out(self, group: int) -> None:
        """Blocks of this group are no whole prefixes: `translate` passes over them from now on."""
        if group <= at.MAX_GROUP:
            self._out_of_groups |= 1 << (group + 1)
            self._head[at.OUT_OF_GROUPS] = self._out_of_groups

    def find(self, group: Group, name: EngineHash) -> Named | None:
        """None: not held, or stored before we listened."""
        place = self._place(group, name)
        if place < 0:
            return None
        key, parent, held = self._cells[place : place + at.NAME].tolist()
        scope = self._scopes[held >> int(at.SCOPE_SHIFT)]
        return Named(BlockKey(key), BlockKey(parent) if parent else None, scope)

    def store(
        self,
        group: Group,
        names: Sequence[EngineHash],
        parent: BlockKey | None,
        keys: Keys,
        scope: Scope,
        tier: Tier,
    ) -> int:
        """One copy more of each of a chain, `STORED`; or why nothing was done (`names_layout`)."""
        words, n = _words(names)
        number = self._scopes.number_of(scope) if self.make_room(len(names), n) else -1
        if number < 0:
            return at.NO_ROOM
        above = np.uint64(parent or 0)
        outcome: int = self._kernels.store_names(
            *self._arrays(), words, n, _number(group), above, keys, number, int(tier)
        )
        return outcome

    def told(self, group: Group, name: EngineHash, tier: Tier) -> BlockKey | None:
        """Its key, if it is held there and would get no further copy."""
        words, _ = _words((name,))
        place = self._kernels.told_at(*self._arrays(), words, _number(group), int(tier))
        return None if place < 0 else BlockKey(int(self._cells[place]))

    def remove(self, group: Group, names: Sequence[EngineHash], tier: Tier) -> list[int]:
        """One copy less of each that has one there; their keys."""
        words, n = _words(names)
        keys = np.empty(len(names), np.uint64)
        arrays = self._arrays()
        n_known = self._kernels.remove_names(*arrays, words, n, _number(group), int(tier), keys)
        known: list[int] = keys[:n_known].tolist()
        return known

    def translate(
        self, events: FlatEvents, start: int, out: Keys, n_out: int
    ) -> tuple[int, int, int, int]:
        """Flat events from word `start` on into packed ones in `out`.

        Ends before an event that is not plain. Returns where both end, the blocks removed that are
        not held, and the events of groups left out. There must be room for all hashes.
        """
        head = self._head
        head[at.N_WORDS] = n_out
        arrays = self._cells, self._old, self._scopes.seeds, head
        end: int = self._translate(*arrays, events.words, start, events.token_ids, out)
        n_out, n_unknown, n_other = head[at.N_WORDS : at.OTHER_GROUPS + 1].tolist()
        return end, n_out, n_unknown, n_other

    def make_room(self, n: int, n_words: int) -> bool:
        """For `n` more names of as many words; False if the budget has none."""
        total = int(self._head[at.N_NAMES]) + n
        width = at.NARROW if n_words == 1 else at.WIDE
        if total <= self._calm and width <= self._width and not len(self._old):
            return True
        bits, wanted = int(self._head[at.BITS]), max(width, self._width)
        if not self._head[at.OLD_LEFT]:
            self._old = _NO_WORDS
            if wanted == self._width and total > self._calm:
                self._prepare(wanted << (bits + 1), n)
        if wanted == self._width and total <= _comfortable(bits):
            return True
        more = bits + (wanted == self._width)
        while total > _comfortable(more):
            more += 1
        if not self._fits(wanted << more):
            # Slower, and never full: an empty place is what ends a search.
            return wanted == self._width and total <= (1 << bits) * 9 // 10
        self._grow(more, wanted)
        return True

    def check(self) -> None:
        """Raises `LocalEventError` on a broken invariant. O(blocks), slow."""
        from radixroute.events.engines.names_check import check_names

        check_names(*self._arrays())

    def _arrays(self) -> tuple[Cells, Cells, Cells, Any]:
        return self._cells, self._old, self._scopes.seeds, self._head

    def _place(self, group: Group, name: EngineHash) -> int:
        words, _ = _words((name,))
        place: int = self._kernels.place_of(*self._arrays(), words, _number(group))
        return place

    def _fits(self, n_words: int) -> bool:
        return self._cells.nbytes + 8 * n_words <= self._max_bytes

    def _prepare(self, n_words: int, n: int) -> None:
        """Has the next table's memory zeroed, a little a batch: its first names go anywhere."""
        if len(self._next) != n_words:
            self._next, self._touched = _zeroed(n_words if self._fits(n_words) else 0), 0
        end = self._touched + (1 + n // _NAMES_A_PAGE) * _PAGE_WORDS
        self._next[self._touched : end : _PAGE_WORDS] = 0
        self._touched = end

    def _grow(self, bits: int, width: int) -> None:
        head = self._head
        # Seldom any: what is left of an earlier growth, when a batch is as large as the table.
        self._kernels.move(*self._arrays(), int(head[at.OLD_LEFT]))
        self._old = self._cells
        head[at.OLD_BITS], head[at.OLD_WIDTH] = head[at.BITS], head[at.WIDTH]
        head[at.OLD_AT], head[at.OLD_LEFT] = 0, 1 << int(head[at.BITS])
        self._open(bits, width)

    def _open(self, bits: int, width: int) -> None:
        n_words = width << bits
        self._cells = self._next if len(self._next) == n_words else _zeroed(n_words)
        self._next = _NO_WORDS
        self._head[at.BITS], self._head[at.WIDTH] = bits, width
        self._width, self._calm = width, _comfortable(bits) * 3 // 4


def _comfortable(bits: int) -> int:
    """How many names a table takes before it grows: five places of eight."""
    return (1 << bits) * 5 // 8


def _number(group: Group) -> int:
    return 0 if group is None else group + 1


def _words(names: Sequence[EngineHash]) -> tuple[Cells, int]:
    """Names in words, and how many each takes."""
    if max(names, default=0) < _WORD:
        return np.array(names, np.uint64), 1
    data = b"".join(name.to_bytes(32, "little") for name in names)
    return np.frombuffer(data, np.uint64), 4


def _zeroed(n_words: int) -> Cells:
    """Zeroed words, taken from the system as they are touched, in large pages where it has any.

    Large pages also go back to it quickly: 128 MiB took 10 ms in small ones.
    """
    if n_words < _PAGE_WORDS:
        return np.zeros(n_words, np.uint64)
    memory = mmap.mmap(-1, 8 * n_words, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint64)
