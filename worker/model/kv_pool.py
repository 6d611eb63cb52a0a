"""KV pool: K and V of every block of every layer, paged, and how many blocks fit.

Owns the memory; which block belongs to whom is the scheduler's business. Shape of each of K and V:
(layers, blocks, block_size, kv_heads, head_dim). Called by the runner and its attention backend.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.worker.errors import StartFailed
from radixroute.worker.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class KVPool:
    """K and V tensors; their contents change in place."""

    k: Tensor
    v: Tensor
    block_size: int  # tokens

    @property
    def n_blocks(self) -> int:
        return int(self.k.shape[1])


def blocks_that_fit(config: ModelConfig, *, kv_memory: int, block_size: int, itemsize: int) -> int:
    """Blocks of `block_size` tokens in `kv_memory` bytes. Raises `StartFailed` for fewer than 2."""
    block_bytes = config.kv_bytes_per_token(itemsize) * block_size
    n_blocks = kv_memory // block_bytes
    if n_blocks < 2:
        raise StartFailed(
            f"kv_memory of {kv_memory} bytes holds {n_blocks} blocks of {block_bytes} bytes: "
            f"give at least {2 * block_bytes}"
        )
    return n_blocks


def new_pool(
    config: ModelConfig, n_blocks: int, block_size: int, *, dtype: torch.dtype, device: torch.device
) -> KVPool:
    """An empty pool. Raises `StartFailed` when the device has no room for it."""
    shape = (config.n_layers, n_blocks, block_size, config.n_kv_heads, config.head_dim)
    try:
        # Zeros, not empty, so that a run does not depend on old memory. Attention does not lean on
        # it: what nobody owns is never read, whatever it holds.
        k, v = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
    except RuntimeError as error:
        size = 2 * config.kv_bytes_per_token(dtype.itemsize) // 2 * n_blocks * block_size
        raise StartFailed(
            f"no room on {device} for a KV pool of {size} bytes: lower kv_memory"
        ) from error
    return KVPool(k, v, block_size)
