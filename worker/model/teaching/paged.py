"""A paged cache: memory in blocks of equal size, handed out one by one.

    table of a sequence:   0    1    2          position p is in block table[p // block_size],
    blocks in the store:   7    2    5          at row p % block_size

A sequence takes a block when it needs one, so at most one block of it is not full, and none is
reserved for what may never come. A block may stand in several tables: sequences that begin alike
share what they have in common. The price: a context lies scattered, and has to be gathered (here)
or read block by block (a kernel made for it).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from radixroute.worker.model.teaching.planes import Plane, bytes_of
from radixroute.worker.model.teaching.work import Work


class BlockStore:
    """The memory of all sequences in one layer, and how many tables each block stands in."""

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        planes: Sequence[Plane],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.block_size = block_size  # tokens
        self.memory = tuple(
            torch.zeros(n_blocks * block_size, *plane, dtype=dtype) for plane in planes
        )
        self._free = list(range(n_blocks - 1, -1, -1))  # the lowest number is taken first
        self._owners = [0] * n_blocks

    @property
    def n_used(self) -> int:
        return len(self._owners) - len(self._free)

    @property
    def block_bytes(self) -> int:
        return bytes_of(*(memory[: self.block_size] for memory in self.memory))

    def scatter(self, seed: int) -> None:
        """Hand out free blocks in a random order, as a store does after many sequences."""
        order = torch.randperm(len(self._free), generator=torch.Generator().manual_seed(seed))
        self._free = [self._free[i] for i in order.tolist()]

    def take(self) -> int:
        """A block nobody has. Raises `ValueError` when there is none."""
        if not self._free:
            raise ValueError(f"all {len(self._owners)} blocks are in use")
        block = self._free.pop()
        self._owners[block] = 1
        return block

    def share(self, block: int) -> None:
        self._owners[block] += 1

    def give_back(self, block: int) -> None:
        self._owners[block] -= 1
        if not self._owners[block]:
            self._free.append(block)


class PagedCache:
    """One sequence: a table of blocks and a length.

    With a `window` the blocks that no new token can see are given back, and the context that
    `extend` gives begins behind them.
    """

    def __init__(self, store: BlockStore, work: Work, window: int | None = None) -> None:
        self._store, self._work, self._window = store, work, window
        self.table: list[int] = []  # of the blocks that are kept
        self.length = 0
        self._n_left = 0  # tokens in front of the first of them

    @property
    def block_bytes(self) -> int:
        return self._store.block_bytes

    def extend(self, *new: Tensor) -> tuple[Tensor, ...]:
        """Raises `ValueError` when the store has no block left."""
        size = self._store.block_size
        self._leave()
        start, end = self.length - self._n_left, self.length + len(new[0]) - self._n_left
        while len(self.table) * size < end:
            self.table.append(self._store.take())
        table, positions = torch.tensor(self.table), torch.arange(start, end)
        slots = table[positions // size] * size + positions % size
        for memory, rows in zip(self._store.memory, new, strict=True):
            memory.index_copy_(0, slots, rows.to(memory.dtype))
        self.length = self._n_left + end
        # Gathered block by block; the unwritten end of the last block is cut off.
        blocks = (memory.view(-1, size, *memory.shape[1:]) for memory in self._store.memory)
        gathered = tuple(memory.index_select(0, table).flatten(0, 1) for memory in blocks)
        context = tuple(rows[:end] for rows in gathered)
        self._work.kv_written += bytes_of(*new)
        self._work.copied += bytes_of(*gathered)
        self._work.kv_read += bytes_of(*context)
        return tuple(x.to(rows.dtype) for x, rows in zip(context, new, strict=True))

    def _leave(self) -> None:
        """Give back the blocks that lie before the window of the next token."""
        if self._window is None:
            return
        while self._n_left + self._store.block_size <= self.length - self._window + 1:
            self._store.give_back(self.table.pop(0))
            self._n_left += self._store.block_size

    def fork(self, n_tokens: int) -> "PagedCache":
        """A new sequence that shares the first tokens of this one: whole blocks only. Raises
        `ValueError` for one with a window.

        A block that is not full stays its owner's: the next token would be written into it.
        """
        if self._window is not None:
            raise ValueError("what left the window cannot be shared")
        twin = PagedCache(self._store, self._work)
        twin.table = self.table[: min(n_tokens, self.length) // self._store.block_size]
        twin.length = len(twin.table) * self._store.block_size
        for block in twin.table:
            self._store.share(block)
        return twin

    def release(self) -> None:
        """The sequence is over. Blocks that others share stay."""
        for block in self.table:
            self._store.give_back(block)
        self.table, self.length, self._n_left = [], 0, 0
