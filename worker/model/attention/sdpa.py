"""SDPA backend: gathers pages and calls torch's scaled_dot_product_attention.

Owns one step's plan and nothing that lasts. Single new tokens are read in padded batches of
similar length, longer slices one by one. Called by the layers through the Protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.context import Context, context_of, hidden_from, slots_of
from radixroute.worker.model.attention.tiled import Places, tiled_attention
from radixroute.worker.model.kv.pool import KVPool

# A batch of single tokens is padded to its longest context. Sequences join a batch as long as the
# padded positions stay below this multiple of the real ones; past it a further call is cheaper.
MAX_PADDING = 1.25


@dataclass(frozen=True, slots=True)
class _Pages:
    """Where a batch of sequences finds its context: `table` gathers, `run` is a view instead."""

    table: Tensor  # int64: (sequences * blocks,), or (sequences * context,) with `of_slots`
    of_slots: bool
    run: slice | None  # the blocks, when one sequence has them side by side
    n_sequences: int
    lead: int  # tokens of the first block that nobody sees
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
    is_fresh: bool  # all that it sees are this step's rows
    n_before: int  # tokens that its first one sees beside itself
    mask: Tensor | None  # (tokens, context), additive; None: causal from 0, or tiled


class SdpaBackend:
    """Gathers pages and calls torch's scaled_dot_product_attention. CPU, CUDA, any dtype.

    But for prompts in bfloat16 on a CPU, which `tiled_attention` computes faster.
    """

    def __init__(self, pool: KVPool) -> None:
        self._pool = pool
        self._window = pool.layout.window
        self._value_width = pool.layout.value_width
        self._tiles = pool.dtype is torch.bfloat16 and pool.device.type == "cpu"
        self._slots = torch.empty(0, dtype=torch.int64)
        self._decodes: list[_Decodes] = []
        self._prefills: list[_Prefill] = []
        self._fresh: list[Tensor] = []

    def plan(self, slices: Sequence[SequenceSlice]) -> None:
        ends = np.cumsum([len(s.token_ids) for s in slices])
        starts = ends - [len(s.token_ids) for s in slices]
        block_size = self._pool.block_size
        self._slots = self._to_device(np.concatenate([slots_of(s, block_size) for s in slices]))
        contexts = [context_of(s, block_size, self._window) for s in slices]
        singles = [i for i, s in enumerate(slices) if len(s.token_ids) == 1]
        self._plan_decodes([contexts[i] for i in singles], starts[singles])
        self._prefills = [
            self._prefill(contexts[i], slice(int(starts[i]), int(ends[i])))
            for i, s in enumerate(slices)
            if len(s.token_ids) > 1
        ]

    def write(self, layer: int, *planes: Tensor) -> None:
        self._fresh = self._pool.write(layer, self._slots, planes)

    def read(self, layer: int, q: Tensor, scale: float) -> Tensor:
        out = q.new_empty(*q.shape[:2], self._value_width)
        for prefill in self._prefills:
            self._read_prefill(layer, q[prefill.rows], scale, prefill, out[prefill.rows])
        self._fill_decodes(layer, q, scale, out)
        return out

    def _plan_decodes(self, contexts: list[Context], rows: NDArray[np.int64]) -> None:
        """Tokens that come alone, one a sequence, and their rows in the step."""
        groups = _grouped([one.length for one in contexts])
        self._decodes = [
            self._decode([contexts[i] for i in group], rows[group]) for group in groups
        ]

    def _fill_decodes(self, layer: int, q: Tensor, scale: float, out: Tensor) -> None:
        """Their rows of `out`, (rows, heads, value width)."""
        for decodes in self._decodes:
            attended = self._read_decodes(layer, q.index_select(0, decodes.rows), scale, decodes)
            out.index_copy_(0, decodes.rows, attended)

    def _read_prefill(
        self, layer: int, q: Tensor, scale: float, prefill: _Prefill, out: Tensor
    ) -> None:
        """Fills `out`, (tokens, heads, value width)."""
        if prefill.is_fresh:
            planes = [rows[prefill.rows] for rows in self._fresh]
        else:
            planes = [found[0] for found in self._gather(layer, prefill.pages)]
        k, v = planes[0], planes[-1]
        n, heads, _ = q.shape
        grouped = (n, k.shape[1], heads // k.shape[1], -1)
        if self._tiles:
            values = v[..., : self._value_width]
            places = Places(prefill.n_before, self._window)
            tiled_attention(q.view(grouped), k, values, places, scale, out.view(grouped))
            return
        keys = _shared(k, grouped[2])
        attended = functional.scaled_dot_product_attention(
            q.view(grouped).permute(1, 2, 0, 3),
            keys,
            keys if v is k else _shared(v, grouped[2]),
            attn_mask=prefill.mask,
            is_causal=prefill.mask is None,
            scale=scale,
        )
        out.view(grouped).copy_(self._values(attended).permute(2, 0, 1, 3))

    def _read_decodes(self, layer: int, q: Tensor, scale: float, decodes: _Decodes) -> Tensor:
        """(sequences, heads, key width) -> (.., value width). A group's heads are query rows."""
        planes = self._gather(layer, decodes.pages)
        k, v = planes[0], planes[-1]
        n, heads, _ = q.shape
        attended = functional.scaled_dot_product_attention(
            q.view(n, k.shape[2], heads // k.shape[2], -1),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=decodes.mask,
            scale=scale,
        )
        return self._values(attended).reshape(n, heads, -1)

    def _values(self, attended: Tensor) -> Tensor:
        """What was read, without the keys behind a latent.

        Rows of a latent are keys and values at once: given twice in full width they take torch's
        fast path, which wants both of one width. What is more than values is cut off here.
        """
        return attended[..., : self._value_width]

    def _gather(self, layer: int, pages: _Pages) -> list[Tensor]:
        """The planes of some sequences: each (sequences, context, heads, width)."""
        if pages.run is not None:
            planes = self._pool.read_run(layer, pages.run)
        elif pages.of_slots:
            planes = self._pool.read_slots(layer, pages.table)
        else:
            planes = self._pool.read_blocks(layer, pages.table)
        seen = slice(pages.lead, pages.lead + pages.context_len)
        return [plane.view(pages.n_sequences, -1, *plane.shape[-2:])[:, seen] for plane in planes]

    def _decode(self, contexts: list[Context], rows: NDArray[np.int64]) -> _Decodes:
        lengths = np.array([one.length for one in contexts])
        longest = int(lengths.max())
        mask = None
        if (lengths == longest).all() and len({one.lead for one in contexts}) == 1:
            pages = self._pages(contexts)
        else:
            pages = self._padded_pages(contexts, longest)
        if (lengths != longest).any():
            hidden = np.arange(longest)[None] >= lengths[:, None]
            mask = self._mask(hidden)[:, None, None]
        return _Decodes(self._to_device(rows.astype(np.int64)), pages, mask)

    def _prefill(self, context: Context, rows: slice) -> _Prefill:
        n_rows, n_before = rows.stop - rows.start, context.n_before
        leaves_out = self._window is not None and context.length > self._window
        mask = None
        if (n_before or leaves_out) and not self._tiles:
            mask = self._mask(hidden_from(n_rows, context, self._window))
        return _Prefill(rows, self._pages([context]), n_before == 0, n_before, mask)

    def _pages(self, contexts: list[Context]) -> _Pages:
        """Of contexts that are as long and begin as far inside a block."""
        flat = np.concatenate([one.blocks for one in contexts]).astype(np.int64)
        first, n_blocks = int(flat[0]), len(flat)
        side_by_side = len(contexts) == 1 and bool((flat == first + np.arange(n_blocks)).all())
        run = slice(first, first + n_blocks) if side_by_side else None
        lead, context_len = contexts[0].lead, contexts[0].length
        return _Pages(self._to_device(flat), False, run, len(contexts), lead, context_len)

    def _padded_pages(self, contexts: list[Context], longest: int) -> _Pages:
        """Contexts of several lengths, slot by slot; the padding is each sequence's first slot.

        A mask adds -inf to a score and multiplies V by 0: neither hides a NaN or an infinity. So a
        masked position must still hold numbers of the sequence itself, not what a block that
        nobody owns, or the unwritten end of its own last block, was left with.
        """
        slots = np.empty((len(contexts), longest), np.int64)
        for row, one in enumerate(contexts):
            own = one.slots(self._pool.block_size)
            slots[row, : one.length] = own
            slots[row, one.length :] = own[0]
        return _Pages(self._to_device(slots.reshape(-1)), True, None, len(contexts), 0, longest)

    def _mask(self, hidden: NDArray[np.bool_]) -> Tensor:
        """Additive, in the pool's dtype: a boolean mask would be converted again by each layer."""
        mask = torch.zeros(hidden.shape, dtype=self._pool.dtype)
        mask.masked_fill_(torch.from_numpy(hidden), float("-inf"))
        return mask.to(self._pool.device)

    def _to_device(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._pool.device)


def _shared(x: Tensor, group: int) -> Tensor:
    """(context, kv_heads, head_dim) -> (kv_heads, group, context, head_dim).

    Query heads of a group share their K and V by a stride of 0. A head's rows lie side by side:
    reading them across the heads costs the kernel more than this copy (3 % of a long prefill).
    """
    by_head = x.transpose(0, 1).contiguous()
    return by_head[:, None].expand(-1, group, -1, -1)


def _grouped(lengths: list[int]) -> list[list[int]]:
    """Batches of similar length, longest first: padding stays below `MAX_PADDING`."""
    groups: list[list[int]] = []
    n_real = 0  # positions of the last group that are no padding
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else []
        longest = lengths[group[0]] if group else 0
        if group and longest * (len(group) + 1) <= MAX_PADDING * (n_real + lengths[i]):
            group.append(i)
            n_real += lengths[i]
        else:
            groups.append([i])
            n_real = lengths[i]
    return groups
