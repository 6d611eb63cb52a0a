"""Loose blocks: blocks of the tree that leases hold without pinning them.

Evicting such a block frees no memory until its last lease gives it back, so it does not count as
available. Owns how many leases hold each. Called by `PrefixCache` alone.
"""

from collections import Counter
from collections.abc import Iterable

from radixroute.radix.errors import BrokenInvariant


class LooseBlocks:
    """How many leases hold each block loosely."""

    def __init__(self) -> None:
        self._n_leases: Counter[int] = Counter()

    @property
    def n_blocks(self) -> int:
        return len(self._n_leases)

    def add(self, blocks: Iterable[int]) -> None:
        """One more lease holds these blocks, all of which are in the tree."""
        self._n_leases.update(blocks)

    def drop(self, blocks: Iterable[int]) -> None:
        """One lease less; those that left the tree meanwhile are forgotten already."""
        for block in blocks:
            remaining = self._n_leases[block] - 1
            if remaining > 0:
                self._n_leases[block] = remaining
            else:
                del self._n_leases[block]

    def forget(self, blocks: Iterable[int]) -> None:
        """These blocks left the tree."""
        for block in blocks:
            del self._n_leases[block]

    def check(self, held: Iterable[int]) -> None:
        """Raises unless exactly these blocks are held, each once a lease. O(blocks)."""
        if self._n_leases != Counter(held):
            raise BrokenInvariant("blocks that leases hold loosely are miscounted")
