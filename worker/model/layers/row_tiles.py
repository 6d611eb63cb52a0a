"""Row tiles: matrix products whose rows come out the same however many rows there are, bit by bit.

Found on x86-64 with torch 2.13 and MKL, float32, one thread (a shape is rows x in x out, 17 shapes
from 37 x 51 to 14,336 x 512, and the batched products of attention):

- Fewer than 16 rows go another way through the library: their last bits differ from those of a
  larger product, and of 1, 2, 4 and 8 rows among one another.
- From 16 rows on a row depends on itself and the matrix alone: not on the number of rows (all from
  16 to 299, 512, 777, 1,024 tried), its place among them, its neighbours, or memory alignment.
- With two threads that is lost: 1,536 x 576 parts at 63 rows, 4,096 x 4,096 at 513.
- Torch's SDPA cuts queries by how many there are, so a token of a long prompt and the same token
  alone differ.
- Norms, sums, softmax, exp and tanh give a row from that row alone. silu, gelu and sigmoid do not:
  what is left behind the last whole vector of a call goes through other code, so the same number
  gives other bits at another place.

None of it is promised by anybody. So products here run at the row counts of `ROWS` and no other,
and `must_be_invariant` tries those on each shape before it is used. Pure functions.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from radixroute.worker.errors import StartFailed

# Row counts of a product, the smallest last: a decode is padded to 16, a long chunk runs by 256.
# One thread of the measured machine computes 576 x 3,072 at 30, 61 and 63 GFLOP/s with them.
ROWS = (256, 64, 16)
# Where in the largest tile the smaller ones are tried: the same row at other places, with others.
_STARTS = (0, 7, 101)

Product = Callable[[Tensor], Tensor]


class RowTile(NamedTuple):
    """Rows `first` up to `first + n_own` of many, computed as `rows` of them."""

    first: int
    n_own: int
    rows: int


def row_tiles(n: int) -> Iterator[RowTile]:
    """Cover n rows by products of `ROWS`, large ones first; the last may be padded."""
    first = 0
    for rows in ROWS:
        while n - first >= rows:
            yield RowTile(first, rows, rows)
            first += rows
    if first < n:
        yield RowTile(first, n - first, ROWS[-1])


def tile_of(x: Tensor, tile: RowTile) -> Tensor:
    """The tile's rows of (..., n, width), padded with zeros: (..., rows, width), contiguous."""
    own = x[..., tile.first : tile.first + tile.n_own, :]
    if tile.n_own == tile.rows:
        return own.contiguous()
    padded = x.new_zeros(*x.shape[:-2], tile.rows, x.shape[-1])
    padded[..., : tile.n_own, :] = own
    return padded


def must_be_invariant(what: str, product: Product, shape: tuple[int, ...]) -> None:
    """Raises `StartFailed` where a row of `product` depends on more than itself.

    `shape`: (..., width) of what it takes, without the rows: (..., rows, width).
    """
    draw = torch.Generator().manual_seed(len(what))
    x = torch.randn(*shape[:-1], ROWS[0], shape[-1], generator=draw)
    whole = product(x)
    for rows in ROWS[1:]:
        for start in _STARTS:
            part = slice(start, start + rows)
            if not torch.equal(product(x[..., part, :].contiguous()), whole[..., part, :]):
                raise StartFailed(
                    f"on this machine a row of {what} depends on how many are computed at once, so "
                    "answers cannot be the same to the last bit: use numerics = fast"
                )
