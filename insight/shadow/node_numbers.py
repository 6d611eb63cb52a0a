"""Node numbers: block keys as the small numbers that a simulated fleet takes.

Owns which number a key has. Bounded: keys stand in two generations; when the younger is full it
becomes the older, and what nobody asked for during a whole generation gets a new number when it
comes again, as if it had never been seen. With room for several times what all simulated caches
hold that is a block which no cache has any more.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys

Nodes = NDArray[np.int32]


class NodeNumbers:
    """Of one set of simulations."""

    def __init__(self, keys_a_generation: int) -> None:
        from radixroute.insight.shadow import node_kernels  # here: numba takes 0.5 s to import

        self._kernels = node_kernels
        self._most = max(1, keys_a_generation)
        self._size = 1 << (2 * self._most - 1).bit_length()
        self._young, self._old = self._empty(), self._empty()
        self._n_young = 0
        self._next = 0
        self.n_turns = 0  # generations that became old

    def of(self, keys: Keys) -> Nodes:
        """One for each key, in their order."""
        nodes = np.empty(len(keys), np.int32)
        done = 0
        while done < len(keys):
            counts = np.array([self._n_young, self._next, self._most], np.int64)
            done += self._kernels.number(
                keys[done:], *self._young, *self._old, counts, nodes[done:]
            )
            self._n_young, self._next = int(counts[0]), int(counts[1])
            if done < len(keys):
                self._young, self._old = self._empty(), self._young
                self._n_young = 0
                self.n_turns += 1
        return nodes

    def _empty(self) -> tuple[Keys, Nodes]:
        return np.zeros(self._size, np.uint64), np.full(self._size, -1, np.int32)
