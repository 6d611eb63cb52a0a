"""Numbers for the scopes of one engine's blocks, so that an entry names its scope in 24 bits.

Owned by one `NameTable`. Kernels count the blocks of each; numbers without any are used again.
"""

import numpy as np

from radixroute.events.engines.names_layout import MAX_SCOPES
from radixroute.radix.ids import Cells
from radixroute.radix.keys.block_keys import siphash_key
from radixroute.radix.keys.scope import Scope

_FIRST_CAPACITY = 64


class ScopeBook:
    """`root` is number 0, for good. `seeds`, shape (scopes, 3): a seed's words, blocks."""

    def __init__(self, root: Scope) -> None:
        self.seeds: Cells = np.zeros((_FIRST_CAPACITY, 3), np.uint64)
        self._scopes: list[Scope] = []
        self._numbers: dict[Scope, int] = {}
        self._free: list[int] = []
        self._last: tuple[Scope | None, int] = (None, 0)
        self.number_of(root)
        self.seeds[0, 2] = 1

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Scope:
        return self._scopes[number]

    def number_of(self, scope: Scope) -> int:
        """-1: there are too many. A number without blocks may mean another scope later."""
        if scope is self._last[0]:  # hashing one takes longer than all else here
            return self._last[1]
        number = self._numbers.get(scope)
        if number is None:
            number = self._new_number(scope)
        if number >= 0:
            self._last = scope, number
        return number

    def _new_number(self, scope: Scope) -> int:
        number = len(self._scopes)
        if number == len(self.seeds) and not self._free:
            self._forget_unused()
            if len(self._free) < number // 4 and number < MAX_SCOPES:
                self.seeds = np.concatenate((self.seeds, np.zeros_like(self.seeds)))
        if self._free:
            number = self._free.pop()
            self._scopes[number] = scope
        elif number < MAX_SCOPES:
            self._scopes.append(scope)
        else:
            return -1
        self._numbers[scope] = number
        self.seeds[number, :2] = siphash_key(scope.seed)
        return number

    def _forget_unused(self) -> None:
        self._free = (self.seeds[:, 2] == 0).nonzero()[0].tolist()
        for number in self._free:
            del self._numbers[self._scopes[number]]
        self._last = None, 0
