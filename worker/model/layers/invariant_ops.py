"""Invariant ops: arithmetic in which a row depends on itself alone, to the last bit.

Owns which matrix shapes have been tried on this machine. float32 on a CPU with one thread;
`row_tiles.py` says what was found there. Whatever `Ops` does that is not here is done by each row
or number alone already; a test goes through all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.ops import Ops
from radixroute.worker.model.layers.row_tiles import (
    Product,
    must_be_invariant,
    row_tiles,
    tile_of,
)

# Numbers that torch's loops take at once, on any CPU: behind the last such run other code follows.
_WHOLE = 32


class InvariantOps(Ops):
    """`Ops` by tiles of fixed size. `linear` raises `StartFailed` where no tile size helps."""

    def __init__(self) -> None:
        self._tried: set[tuple[int, ...]] = set()

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        weight, bias = linear.weight, linear.bias
        self._try(x.shape[1:], weight.shape, lambda rows: functional.linear(rows, weight, bias))
        out = x.new_empty(len(x), len(weight))
        for tile in row_tiles(len(x)):
            product = functional.linear(tile_of(x, tile), weight, bias)
            out[tile.first : tile.first + tile.n_own] = product[: tile.n_own]
        return out

    def per_head(self, x: Tensor, matrices: Tensor) -> Tensor:
        self._try(x.shape[1:], matrices.shape, lambda rows: torch.bmm(rows, matrices))
        by_head = x.transpose(0, 1)
        out = x.new_empty(len(matrices), len(x), matrices.shape[-1])
        for tile in row_tiles(len(x)):
            product = torch.bmm(tile_of(by_head, tile), matrices)
            out[:, tile.first : tile.first + tile.n_own] = product[:, : tile.n_own]
        return out.transpose(0, 1)

    def gelu(self, x: Tensor) -> Tensor:
        return in_whole_runs(super().gelu, x)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return in_whole_runs(functional.silu, gate).mul_(up)

    def _try(self, row: tuple[int, ...], shape: tuple[int, ...], product: Product) -> None:
        """`row`: the shape that the product takes, without its rows; `shape`: of the matrix."""
        if shape not in self._tried:
            must_be_invariant(f"a product with {' x '.join(map(str, shape))}", product, row)
            self._tried.add(shape)


def in_whole_runs(activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`activation` of each number, none of them in what is left behind the last whole run."""
    n = x.numel()
    flat = x.new_zeros(-(-n // _WHOLE) * _WHOLE)
    flat[:n] = x.reshape(-1)
    return activation(flat)[:n].view(x.shape)
