"""Attention over the paged pool, behind one seam; the SDPA backend gathers pages.

Owns nothing that lasts: `plan` prepares one step (which slot each row writes, which pages each
sequence reads), then every layer calls `write` for all rows and `read` for all rows. Since all rows
are written first, a sequence may read blocks that another one fills in the same step. Called by
`llama` through the Protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.kv_pool import KVPool
from radixroute.worker.model.tiled_attention import tiled_attention

# A batch of single tokens is padded to its longest context. Sequences join a batch as long as the
# padded positions stay below this multiple of the real ones; past it a further call is cheaper.
MAX_PADDING = 1.25


class AttentionBackend(Protocol):
    """K, V and attention of one step. Rows are the step's tokens, slice after slice."""

    def plan(self, slices: Sequence[SequenceSlice]) -> None:
        """Begin a step."""
        ...

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store K and V of all rows: each (rows, kv_heads, head_dim)."""
        ...

    def read(self, layer: int, q: Tensor) -> Tensor:
        """Attention of all rows: (rows, heads, head_dim) -> the same shape."""
        ...


@dataclass(frozen=True, slots=True)
class _Pages:
    """Where a batch of sequences finds its context: `table` gathers, `run` is a view instead."""

    table: Tensor  # int64: (sequences * blocks,), or (sequences * context,) with `of_slots`
    of_slots: bool
    run: slice | None  # the blocks, when one sequence has them side by side
    n_sequences: int
    context_len: int  # tokens, the longest


@dataclass(frozen=True, slots=True)
class _Decodes:
    """Sequences with one new token each, read in one call."""

    rows: Tensor  # (sequences,), int64
    pages: _Pages
    mask: Tensor | None  # (sequences, 1, 1, context), additive


@dataclass(frozen=True, slots=True)
class _Prefill:
    """One sequence with several new tokens."""

    rows: slice
    pages: _Pages
    start: int  # position of the first; 0: its K and V are this step's rows
    mask: Tensor | None  # (tokens, context), additive; None: causal from 0, or tiled


class SdpaBackend:
    """Gathers pages and calls torch's scaled_dot_product_attention. CPU, CUDA, any dtype.

    But for prompts in bfloat16 on a CPU, which `tiled_attention` computes faster.
    """

    def __init__(self, pool: KVPool) -> None:
        self._pool = pool
        self._k = pool.k.flatten(1, 2)  # (layers, slots, kv_heads, head_dim), views
        self._v = pool.v.flatten(1, 2)
        self._tiles = pool.k.dtype is torch.bfloat16 and pool.k.device.type == "cpu"
        self._slots = torch.empty(0, dtype=torch.int64)
        self._decodes: list[_Decodes] = []
        self._prefills: list[_Prefill] = []
        self._fresh: tuple[Tensor, Tensor] | None = None

    def plan(self, slices: Sequence[SequenceSlice]) -> None:
        ends = np.cumsum([len(s.token_ids) for s in slices])
        starts = ends - [len(s.token_ids) for s in slices]
        slots = [_slots(s, self._pool.block_size) for s in slices]
        self._slots = self._to_device(np.concatenate(slots))
        singles = [i for i, s in enumerate(slices) if len(s.token_ids) == 1]
        groups = _grouped(singles, [_context_len(s) for s in slices])
        self._decodes = [self._decode(slices, starts, group) for group in groups]
        self._prefills = [
            self._prefill(s, slice(int(starts[i]), int(ends[i])))
            for i, s in enumerate(slices)
            if len(s.token_ids) > 1
        ]

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        self._k[layer].index_copy_(0, self._slots, k)
        self._v[layer].index_copy_(0, self._slots, v)
        self._fresh = k, v

    def read(self, layer: int, q: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for prefill in self._prefills:
            self._read_prefill(layer, q[prefill.rows], prefill, out[prefill.rows])
        for decodes in self._decodes:
            attended = self._read_decodes(layer, q.index_select(0, decodes.rows), decodes)
            out.index_copy_(0, decodes.rows, attended)
        return out

    def _read_prefill(self, layer: int, q: Tensor, prefill: _Prefill, out: Tensor) -> None:
        """Fills `out`, which has q's shape: (tokens, heads, head_dim)."""
        if prefill.start == 0 and self._fresh is not None:
            k, v = (x[prefill.rows] for x in self._fresh)
        else:
            k, v = (x[0] for x in self._gather(layer, prefill.pages))
        n, heads, head_dim = q.shape
        kv_heads = k.shape[1]
        grouped = (n, kv_heads, heads // kv_heads, head_dim)
        if self._tiles:
            tiled_attention(q.view(grouped), k, v, prefill.start, out.view(grouped))
            return
        attended = functional.scaled_dot_product_attention(
            q.view(grouped).permute(1, 2, 0, 3),
            _shared(k, heads // kv_heads),
            _shared(v, heads // kv_heads),
            attn_mask=prefill.mask,
            is_causal=prefill.mask is None,
        )
        out.view(grouped).copy_(attended.permute(2, 0, 1, 3))

    def _read_decodes(self, layer: int, q: Tensor, decodes: _Decodes) -> Tensor:
        """(sequences, heads, head_dim) -> the same shape. A group's heads are query rows."""
        k, v = self._gather(layer, decodes.pages)
        n, heads, head_dim = q.shape
        kv_heads = k.shape[2]
        attended = functional.scaled_dot_product_attention(
            q.view(n, kv_heads, heads // kv_heads, head_dim),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=decodes.mask,
        )
        return attended.reshape(n, heads, head_dim)

    def _gather(self, layer: int, pages: _Pages) -> tuple[Tensor, Tensor]:
        """K and V of some sequences: each (sequences, context, kv_heads, head_dim)."""
        if pages.run is not None:
            k, v = self._pool.k[layer, pages.run], self._pool.v[layer, pages.run]
        else:
            places = (self._k, self._v) if pages.of_slots else (self._pool.k, self._pool.v)
            k, v = (place[layer].index_select(0, pages.table) for place in places)
        shape = (pages.n_sequences, -1, *k.shape[-2:])
        return k.view(shape)[:, : pages.context_len], v.view(shape)[:, : pages.context_len]

    def _decode(
        self, slices: Sequence[SequenceSlice], starts: NDArray[np.int64], group: list[int]
    ) -> _Decodes:
        lengths = np.array([_context_len(slices[i]) for i in group])
        longest = int(lengths.max())
        tables = [slices[i].block_table for i in group]
        mask = None
        if (lengths == longest).all():
            pages = self._pages(tables, longest)
        else:
            hidden = np.arange(longest)[None] >= lengths[:, None]
            mask = self._mask(hidden)[:, None, None]
            pages = self._padded_pages(tables, lengths)
        return _Decodes(self._to_device(starts[group].astype(np.int64)), pages, mask)

    def _prefill(self, part: SequenceSlice, rows: slice) -> _Prefill:
        context_len = _context_len(part)
        mask = None
        if part.start and not self._tiles:
            positions = np.arange(part.start, context_len)
            mask = self._mask(np.arange(context_len)[None] > positions[:, None])
        return _Prefill(rows, self._pages([part.block_table], context_len), part.start, mask)

    def _pages(self, tables: list[NDArray[np.int32]], context_len: int) -> _Pages:
        n_blocks = -(-context_len // self._pool.block_size)
        flat = np.concatenate([blocks[:n_blocks] for blocks in tables]).astype(np.int64)
        first = int(flat[0])
        side_by_side = len(tables) == 1 and bool((flat == first + np.arange(n_blocks)).all())
        run = slice(first, first + n_blocks) if side_by_side else None
        return _Pages(self._to_device(flat), False, run, len(tables), context_len)

    def _padded_pages(self, tables: list[NDArray[np.int32]], lengths: NDArray[np.int64]) -> _Pages:
        """Contexts of several lengths, slot by slot; the padding is each sequence's first slot.

        A mask adds -inf to a score and multiplies V by 0: neither hides a NaN or an infinity. So a
        masked position must still hold numbers of the sequence itself, not what a block that
        nobody owns, or the unwritten end of its own last block, was left with.
        """
        block_size, longest = self._pool.block_size, int(lengths.max())
        slots = np.empty((len(tables), longest), np.int64)
        offsets = np.arange(block_size)
        for row, (blocks, length) in enumerate(zip(tables, lengths.tolist(), strict=True)):
            own = (blocks[:, None].astype(np.int64) * block_size + offsets).reshape(-1)
            slots[row, :length] = own[:length]
            slots[row, length:] = own[0]
        return _Pages(self._to_device(slots.reshape(-1)), True, None, len(tables), longest)

    def _mask(self, hidden: NDArray[np.bool_]) -> Tensor:
        """Additive, in the pool's dtype: a boolean mask would be converted again by each layer."""
        mask = torch.zeros(hidden.shape, dtype=self._pool.k.dtype)
        mask.masked_fill_(torch.from_numpy(hidden), float("-inf"))
        return mask.to(self._pool.k.device)

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._pool.k.device)


def _shared(x: Tensor, group: int) -> Tensor:
    """(context, kv_heads, head_dim) -> (kv_heads, group, context, head_dim).

    Query heads of a group share their K and V by a stride of 0. A head's rows lie side by side:
    reading them across the heads costs the kernel more than this copy (3 % of a long prefill).
    """
    by_head = x.transpose(0, 1).contiguous()
    return by_head[:, None].expand(-1, group, -1, -1)


def _context_len(part: SequenceSlice) -> int:
    return part.start + len(part.token_ids)


def _slots(part: SequenceSlice, block_size: int) -> NDArray[np.int64]:
    """Pool slot of each new token."""
    positions = np.arange(part.start, _context_len(part))
    blocks = part.block_table[positions // block_size].astype(np.int64)
    slots: NDArray[np.int64] = blocks * block_size + positions % block_size
    return slots


def _grouped(members: list[int], lengths: list[int]) -> list[list[int]]:
    """Batches of similar length, longest first: padding stays below `MAX_PADDING`."""
    groups: list[list[int]] = []
    n_real = 0  # positions of the last group that are no padding
    for i in sorted(members, key=lambda i: -lengths[i]):
        group = groups[-1] if groups else []
        longest = lengths[group[0]] if group else 0
        if group and longest * (len(group) + 1) <= MAX_PADDING * (n_real + lengths[i]):
            group.append(i)
            n_real += lengths[i]
        else:
            groups.append([i])
            n_real = lengths[i]
    return groups
