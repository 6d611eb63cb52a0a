"""KV pool: the planes of every block of every layer, paged, and how many blocks fit.

Owns the memory; which block belongs to whom is the scheduler's business. Shape of each plane:
(layers, blocks, block_size, heads, width). Called by the runner and its attention backend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.worker.errors import StartFailed
from radixroute.worker.model.kv.layout import KVLayout


@dataclass(frozen=True, slots=True)
class KVPool:
    """Planes by name; their contents change in place."""

    layout: KVLayout
    planes: Mapping[str, Tensor]
    block_size: int  # tokens

    @property
    def n_blocks(self) -> int:
        return int(self._any.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        return self._any.dtype

    @property
    def device(self) -> torch.device:
        return self._any.device

    @property
    def _any(self) -> Tensor:
        return self.planes[self.layout.planes[0].name]


def blocks_that_fit(layout: KVLayout, *, kv_memory: int, block_size: int, itemsize: int) -> int:
    """Blocks of `block_size` tokens in `kv_memory` bytes. Raises `StartFailed` for fewer than 2."""
    block_bytes = layout.bytes_per_token(itemsize) * block_size
    n_blocks = kv_memory // block_bytes
    if n_blocks < 2:
        raise StartFailed(
            f"kv_memory of {kv_memory} bytes holds {n_blocks} blocks of {block_bytes} bytes: "
            f"give at least {2 * block_bytes}"
        )
    return n_blocks


def new_pool(
    layout: KVLayout, n_blocks: int, block_size: int, *, dtype: torch.dtype, device: torch.device
) -> KVPool:
    """An empty pool. Raises `StartFailed` when the device has no room for it."""
    try:
        # Zeros, not empty, so that a run does not depend on old memory. Attention does not lean on
        # it: what nobody owns is never read, whatever it holds.
        planes = {
            plane.name: torch.zeros(
                (layout.n_layers, n_blocks, block_size, plane.heads, plane.width),
                dtype=dtype,
                device=device,
            )
            for plane in layout.planes
        }
    except RuntimeError as error:
        size = layout.bytes_per_token(dtype.itemsize) * n_blocks * block_size
        raise StartFailed(
            f"no room on {device} for a KV pool of {size} bytes: lower kv_memory"
        ) from error
    return KVPool(layout, planes, block_size)
