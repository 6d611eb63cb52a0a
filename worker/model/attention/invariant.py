"""Invariant backend: attention in which a token's result depends on its prefix alone, bit by bit.

Keys and values are read in splits of `SPLIT` tokens at absolute positions, always from the pool,
and the splits' sums are added in order. What a token does not see weighs exactly 0, and adding 0
changes no sum. So neither chunks, nor the batch, nor who filled the cache matter. For float32 on a
CPU with one thread. Owns one step's plan and nothing that lasts. Called by the layers through the
Protocol.

    one split:   scores = q k^T   (rows x SPLIT)       rows: those of `row_tiles`
    all splits:  peak = max, weights = exp(scores - peak), out = sum of weights v / sum of weights
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.context import context_of, slots_of
from radixroute.worker.model.kv.pool import KVPool
from radixroute.worker.model.layers.row_tiles import (
    RowTile,
    must_be_invariant,
    row_tiles,
    tile_of,
)

# Tokens of a split: a decode reads whole ones, and each is some calls of torch.
SPLIT = 128


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some query rows of one slice. A row is one token in one head of a group."""

    rows: RowTile
    n_splits: int  # of the slice's context, up to the last token among them
    hidden: Tensor  # (splits, 1, rows, SPLIT), bool: keys that a row's own token does not see


@dataclass(frozen=True, slots=True)
class _Part:
    """One slice of the step."""

    rows: slice
    slots: Tensor  # of its context, in whole splits; what fills them up is a slot of its own
    tiles: list[_Tile]


class InvariantBackend:
    """Attention over the pool. Raises `StartFailed` where this machine's products vary."""

    def __init__(self, pool: KVPool) -> None:
        self._pool, layout = pool, pool.layout
        self._kv_heads, self._value_width = layout.kv_heads, layout.value_width
        self._written = torch.empty(0, dtype=torch.int64)
        self._slices: Sequence[SequenceSlice] = ()
        self._parts: list[_Part] | None = None  # made by the first read of a step
        _must_be_invariant(layout.kv_heads, layout.planes[0].width, layout.value_width)

    def plan(self, slices: Sequence[SequenceSlice]) -> None:
        self._slices, self._parts = slices, None
        slots = [slots_of(one, self._pool.block_size) for one in slices]
        self._written = torch.from_numpy(np.concatenate(slots))

    def write(self, layer: int, *planes: Tensor) -> None:
        self._pool.write(layer, self._written, planes)

    def read(self, layer: int, q: Tensor, scale: float) -> Tensor:
        n, heads, width = q.shape
        group = heads // self._kv_heads
        if self._parts is None:
            self._parts = _parts(self._slices, self._pool, group)
        out = q.new_empty(n, self._kv_heads, group, self._value_width)
        scaled = (q * scale).view(n, self._kv_heads, group, width)
        for part in self._parts:
            queries = scaled[part.rows].transpose(0, 1).reshape(self._kv_heads, -1, width)
            seen = self._attend(queries, *self._gather(layer, part.slots), part.tiles)
            shape = (self._kv_heads, -1, group, self._value_width)
            out[part.rows] = seen.view(shape).transpose(0, 1)
        return out.view(n, heads, self._value_width)

    def _gather(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of one sequence: each (splits, kv_heads, SPLIT, width)."""
        planes = [
            rows.view(-1, SPLIT, *rows.shape[1:]).transpose(1, 2)
            for rows in self._pool.read_slots(layer, slots)
        ]
        return planes[0].contiguous(), planes[-1][..., : self._value_width].contiguous()

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, tiles: list[_Tile]) -> Tensor:
        """(kv_heads, rows, width) -> (kv_heads, rows, value width)."""
        out = queries.new_empty(*queries.shape[:2], self._value_width)
        for tile in tiles:
            first, n_own, _ = tile.rows
            seen = _read_tile(tile_of(queries, tile.rows), keys, values, tile)
            out[:, first : first + n_own] = seen[:, :n_own]
        return out


def _read_tile(queries: Tensor, keys: Tensor, values: Tensor, tile: _Tile) -> Tensor:
    """(kv_heads, rows, width) -> (kv_heads, rows, value width), split after split."""
    n_splits = tile.n_splits
    scores = torch.stack([torch.bmm(queries, keys[j].transpose(1, 2)) for j in range(n_splits)])
    scores.masked_fill_(tile.hidden, float("-inf"))
    weights = scores.sub_(scores.amax(dim=(0, 3), keepdim=True)).exp_()
    masses = weights.sum(dim=-1, keepdim=True)
    seen, mass = torch.bmm(weights[0], values[0]), masses[0]
    for j in range(1, n_splits):
        seen += torch.bmm(weights[j], values[j])
        mass = mass + masses[j]
    return seen.div_(mass)


def _parts(slices: Sequence[SequenceSlice], pool: KVPool, group: int) -> list[_Part]:
    parts, end = [], 0
    for one in slices:
        n = len(one.token_ids)
        context = context_of(one, pool.block_size, pool.layout.window)
        first = one.start - context.n_before
        own = context.slots(pool.block_size)
        # Nothing that is hidden may be NaN or infinity, which a weight of 0 does not hide: so what
        # fills a split up is of the sequence itself, not a slot that nobody wrote.
        lead = first % SPLIT
        slots = np.full(-(-(lead + len(own)) // SPLIT) * SPLIT, own[0])
        slots[lead : lead + len(own)] = own
        tiles = [
            _tile(rows, one.start + (rows.first + _own_rows(rows)) // group, first, pool)
            for rows in row_tiles(n * group)
        ]
        parts.append(_Part(slice(end, end + n), torch.from_numpy(slots), tiles))
        end += n
    return parts


def _own_rows(rows: RowTile) -> NDArray[np.int64]:
    """Of each row of a tile; a padding row sees what the last of the others sees: something."""
    return np.minimum(np.arange(rows.rows), rows.n_own - 1)


def _tile(rows: RowTile, positions: NDArray[np.int64], first: int, pool: KVPool) -> _Tile:
    """`positions` of the rows; `first` of the context. Splits begin at multiples of `SPLIT`."""
    first_split, own = first // SPLIT, positions[None, None, :, None]
    n_splits = int(positions[-1]) // SPLIT - first_split + 1
    keys = first_split * SPLIT + np.arange(n_splits * SPLIT).reshape(n_splits, 1, 1, SPLIT)
    hidden = (keys > own) | (keys < first)
    if pool.layout.window is not None:
        hidden |= keys <= own - pool.layout.window
    return _Tile(rows, n_splits, torch.from_numpy(hidden))


def _must_be_invariant(kv_heads: int, width: int, value_width: int) -> None:
    draw = torch.Generator().manual_seed(width)
    keys = torch.randn(kv_heads, SPLIT, width, generator=draw).transpose(1, 2)
    values = torch.randn(kv_heads, SPLIT, value_width, generator=draw)
    must_be_invariant("attention's scores", lambda x: torch.bmm(x, keys), (kv_heads, width))
    must_be_invariant("attention's sums", lambda x: torch.bmm(x, values), (kv_heads, SPLIT))
