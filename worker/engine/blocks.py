"""Which KV blocks are free and how many users each other one has.

Owns the free list and the reference counts. Users are the prefix cache (one reference for each
block in its tree) and sequences (one for each block in their tables). Knows neither tokens nor
keys and never evicts. Which blocks are held without being pinned is counted apart, by
`LooseBlocks`. Called by `PrefixCache` alone; one thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from radixroute.radix.errors import BrokenInvariant


class BlockAllocator:
    """Blocks 0..n_blocks-1. The block freed last is handed out first: its memory is warm."""

    def __init__(self, n_blocks: int) -> None:
        self._references = [0] * n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_blocks(self) -> int:
        return len(self._references)

    @property
    def n_free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one reference each. The caller has made sure that they are free."""
        if count > len(self._free):
            raise BrokenInvariant(f"{count} blocks wanted, {len(self._free)} free")
        if count == 0:
            return []
        blocks = self._free[-count:]
        del self._free[-count:]
        blocks.reverse()
        for block in blocks:
            self._references[block] = 1
        return blocks

    def retain(self, blocks: Iterable[int]) -> None:
        """One more user of each of these blocks, all of which have one already."""
        for block in blocks:
            if self._references[block] == 0:
                raise BrokenInvariant(f"block {block} is free and cannot be shared")
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One user less; a block without users is free."""
        for block in blocks:
            remaining = self._references[block] - 1
            if remaining < 0:
                raise BrokenInvariant(f"block {block} is released more often than it was taken")
            self._references[block] = remaining
            if remaining == 0:
                self._free.append(block)

    def check(self, users_by_block: Mapping[int, int]) -> None:
        """Raises unless exactly these blocks are in use, each by so many. O(blocks)."""
        if len(set(self._free)) != len(self._free):
            raise BrokenInvariant("a block is free twice")
        free = set(self._free)
        for block, references in enumerate(self._references):
            users = users_by_block.get(block, 0)
            if references != users or (block in free) != (users == 0):
                raise BrokenInvariant(f"block {block} has {references} references, {users} users")


class LooseBlocks:
    """Blocks of the tree that leases hold without pinning them, and how many leases each.

    Evicting such a block frees no memory until its last lease gives it back, so it does not count
    as available.
    """

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
