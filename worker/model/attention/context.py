"""Context: which positions the new tokens of one slice see, and in which blocks those lie.

Owns the arithmetic of windows and blocks for one step. Pure. Called by the backends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.worker.engine.runner import SequenceSlice


@dataclass(frozen=True, slots=True)
class Context:
    """What a slice's tokens see: `length` positions in a row, from `lead` in the first block on.

    The slice's own tokens are the last of them.
    """

    blocks: NDArray[np.int32]
    lead: int  # positions of the first block that have left the window of every token
    length: int
    n_before: int  # positions that the first new token sees beside itself

    def slots(self, block_size: int) -> NDArray[np.int64]:
        """Where those positions lie in the pool: (length,)."""
        offsets = np.arange(block_size)
        held = (self.blocks[:, None].astype(np.int64) * block_size + offsets).reshape(-1)
        return held[self.lead : self.lead + self.length]


def context_of(part: SequenceSlice, block_size: int, window: int | None) -> Context:
    """A token sees itself and all before it, or with a window the `window - 1` before it."""
    end = part.start + len(part.token_ids)
    first = 0 if window is None else max(0, part.start - window + 1)
    first_block = first // block_size
    blocks = part.block_table[
        first_block - part.first_block : -(-end // block_size) - part.first_block
    ]
    return Context(blocks, first - first_block * block_size, end - first, part.start - first)


def hidden_from(n_rows: int, context: Context, window: int | None) -> NDArray[np.bool_]:
    """Which positions each new token does not see: (rows, length), those after it and too far."""
    own = np.arange(context.n_before, context.n_before + n_rows)[:, None]
    places = np.arange(context.length)[None]
    hidden: NDArray[np.bool_] = places > own
    return hidden if window is None else hidden | (places <= own - window)


def slots_of(part: SequenceSlice, block_size: int) -> NDArray[np.int64]:
    """Pool slot of each new token: (tokens,)."""
    positions = np.arange(part.start, part.start + len(part.token_ids))
    blocks = part.block_table[positions // block_size - part.first_block].astype(np.int64)
    slots: NDArray[np.int64] = blocks * block_size + positions % block_size
    return slots
