"""CpuBackend: attention on one CPU thread, tokens that come alone by kernels over block tables.

Owns one step's tables and a scratch memory. Prompts, and pools in other formats than the model's,
are the SDPA backend's. Called by the layers through the Protocol.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radixroute.radix.jit import entry_point
from radixroute.worker.model.attention.context import Context
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.cpu import attention_kernels as attention
from radixroute.worker.model.cpu import row_kernels as rows
from radixroute.worker.model.kv.pool import KVPool

_F32, _BF16 = torch.float32, torch.bfloat16
_KEEP = {_F32: entry_point(rows.keep_f32), _BF16: entry_point(rows.keep_bf16)}
_ATTEND = {_F32: entry_point(attention.attend_f32), _BF16: entry_point(attention.attend_bf16)}


class CpuBackend(SdpaBackend):
    """Over a pool in main memory that keeps numbers as the model computes them: `fits` says."""

    @staticmethod
    def fits(pool: KVPool) -> bool:
        as_they_are = all(plane.dtype is pool.dtype for plane in pool.planes.values())
        return pool.device.type == "cpu" and pool.dtype in _ATTEND and as_they_are

    def __init__(self, pool: KVPool) -> None:
        super().__init__(pool)
        self._keep, self._attend = _KEEP[pool.dtype], _ATTEND[pool.dtype]
        planes = [pool.planes[plane.name] for plane in pool.layout.planes]
        # Where a layer's part of each plane lies; asking a tensor for it takes a microsecond.
        self._layers = [
            tuple(plane[layer].data_ptr() for plane in planes)
            for layer in range(pool.layout.n_layers)
        ]
        self._kv_heads, self._stored_width = planes[-1].shape[-2:]
        self._n_decodes = 0
        self._places = np.empty((0, attention.N_PLACES), np.int64)
        self._blocks = np.empty(0, np.int64)
        self._tables = 0, 0  # their addresses
        self._longest = 0
        self._scratch = torch.empty(0, dtype=_F32)

    def write(self, layer: int, *planes: Tensor) -> None:
        slots = self._slots.data_ptr()
        self._fresh = [_rows(plane) for plane in planes]
        for to, given in zip(self._layers[layer], self._fresh, strict=True):
            n, heads, width = given.shape
            self._keep(given.data_ptr(), to, slots, n, heads * width, given.stride(0))

    def _plan_decodes(self, contexts: list[Context], rows: NDArray[np.int64]) -> None:
        self._n_decodes = len(contexts)
        if not contexts:
            return
        tables = [one.blocks for one in contexts]
        ends = np.cumsum([len(table) for table in tables]).tolist()
        self._longest = max(one.length for one in contexts)
        self._places = np.array(
            [
                (row, one.lead, one.length, end - len(one.blocks))
                for row, one, end in zip(rows.tolist(), contexts, ends, strict=True)
            ],
            np.int64,
        )
        self._blocks = np.concatenate(tables).astype(np.int64)
        self._tables = self._places.ctypes.data, self._blocks.ctypes.data

    def _fill_decodes(self, layer: int, q: Tensor, scale: float, out: Tensor) -> None:
        if not self._n_decodes:
            return
        q = _rows(q)
        _, heads, key_width = q.shape
        needed = attention.scratch_size(
            heads,
            self._kv_heads,
            key_width,
            self._stored_width,
            self._value_width,
            self._longest,
        )
        if len(self._scratch) < needed:
            self._scratch = torch.empty(2 * needed, dtype=_F32)
        planes = self._layers[layer]
        given = q.data_ptr(), planes[0], planes[-1], out.data_ptr()
        sizes = self._n_decodes, heads, self._kv_heads, key_width, self._stored_width
        self._attend(
            *given,
            *self._tables,
            self._scratch.data_ptr(),
            *sizes,
            self._value_width,
            q.stride(0),
            self._pool.block_size,
            scale,
        )


def _rows(x: Tensor) -> Tensor:
    """(rows, heads, width), each row in one piece."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
