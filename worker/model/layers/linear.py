"""Linear: one matrix with its bias, read from a folder; those with the same input are one matrix.

Owns the record and how it is read. Computing with it is `Ops.linear`. Called by layers and families
at a start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x W^T + b; weight of shape (out, in)."""

    weight: "Tensor"
    bias: "Tensor | None" = None


def read_linear(
    weights: "Weights", rows_by_name: Mapping[str, int], columns: int, *, bias: bool = False
) -> Linear:
    """The matrices of these names, of so many rows each, below one another."""
    matrices = {f"{name}.weight": (rows, columns) for name, rows in rows_by_name.items()}
    biases = {f"{name}.bias": (rows,) for name, rows in rows_by_name.items()}
    return Linear(weights.stacked(matrices), weights.stacked(biases) if bias else None)
