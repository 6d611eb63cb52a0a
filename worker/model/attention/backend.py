"""Attention backend: the seam between a model and what its tokens left in the pool.

Owns the Protocol. `plan` prepares one step (which slot each row writes, which pages each sequence
reads), then every layer calls `write` for all rows and `read` for all rows. Since all rows are
written first, a sequence may read blocks that another one fills in the same step. Called by the
layers; the runner makes one over its pool.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from radixroute.worker.engine.runner import SequenceSlice

if TYPE_CHECKING:
    from torch import Tensor


class AttentionBackend(Protocol):
    """One step's cache and attention. Rows are the step's tokens, slice after slice."""

    def plan(self, slices: Sequence[SequenceSlice]) -> None:
        """Begin a step."""
        ...

    def write(self, layer: int, *planes: "Tensor") -> None:
        """Store the layout's planes of all rows, in its order: each (rows, heads, width)."""
        ...

    def read(self, layer: int, q: "Tensor", scale: float) -> "Tensor":
        """Attention of all rows: (rows, heads, key width) -> (rows, heads, value width).

        `scale` multiplies the products of queries and keys.
        """
        ...
