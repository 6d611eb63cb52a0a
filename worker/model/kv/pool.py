"""KV pool: the planes of every block of every layer, paged, and how many blocks fit.

Owns the memory and how rows get into it and out; which block belongs to whom is the scheduler's
business. Shape of each plane: (layers, blocks, block_size, heads, width); of its scales, where the
format has some, the same without the width. Called by the runner and its attention backend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.worker.errors import StartFailed
from radixroute.worker.model.kv.formats import FORMATS, KVFormat
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.kv.rounding import STORED, Rounded, restored, rounded


@dataclass(frozen=True, slots=True)
class _Store:
    """One plane's tensors, by blocks and, flat, by slots. Views of one memory."""

    values: Tensor
    value_slots: Tensor
    scales: Tensor | None
    scale_slots: Tensor | None


class KVPool:
    """Planes by name; their contents change in place."""

    def __init__(
        self,
        layout: KVLayout,
        kv_format: KVFormat,
        dtype: torch.dtype,  # that attention computes in: rows are given and read in it
        planes: Mapping[str, Tensor],
        scales: Mapping[str, Tensor],  # of the planes; empty: the format has none
    ) -> None:
        self.layout, self.kv_format, self.dtype = layout, kv_format, dtype
        self.planes, self.scales = planes, scales
        self._stores = [_store(planes[one.name], scales.get(one.name)) for one in layout.planes]
        _, self.n_blocks, self.block_size, *_ = self._stores[0].values.shape
        self.device = self._stores[0].values.device

    @property
    def n_bytes(self) -> int:
        """Of all tensors."""
        return sum(one.nbytes for one in (*self.planes.values(), *self.scales.values()))

    def write(self, layer: int, slots: Tensor, rows: tuple[Tensor, ...]) -> list[Tensor]:
        """Keep rows of all planes, each (rows, heads, width); returns them as they will be read."""
        read = []
        for store, given in zip(self._stores, rows, strict=True):
            if given.dtype is store.values.dtype:  # kept as it is: 2 calls less a layer
                store.value_slots[layer].index_copy_(0, slots, given)
                read.append(given)
                continue
            kept = rounded(given, self.kv_format)
            store.value_slots[layer].index_copy_(0, slots, _raw(kept.values))
            if store.scale_slots is not None and kept.scales is not None:
                store.scale_slots[layer].index_copy_(0, slots, kept.scales)
            read.append(restored(kept, self.kv_format, self.dtype))
        return read

    def read_slots(self, layer: int, slots: Tensor) -> list[Tensor]:
        """Rows of all planes: each (slots, heads, width)."""
        return [
            self._restored(
                one.value_slots[layer].index_select(0, slots),
                None if one.scale_slots is None else one.scale_slots[layer].index_select(0, slots),
            )
            for one in self._stores
        ]

    def read_blocks(self, layer: int, blocks: Tensor) -> list[Tensor]:
        """Whole blocks of all planes: each (blocks, block_size, heads, width)."""
        return [
            self._restored(
                one.values[layer].index_select(0, blocks),
                None if one.scales is None else one.scales[layer].index_select(0, blocks),
            )
            for one in self._stores
        ]

    def read_run(self, layer: int, run: slice) -> list[Tensor]:
        """The same of blocks side by side: views, where the format is the dtype."""
        return [
            self._restored(
                one.values[layer, run], None if one.scales is None else one.scales[layer, run]
            )
            for one in self._stores
        ]

    def are_sound(self, blocks: Tensor) -> Tensor:
        """Which slots of some blocks hold numbers in every layer: (blocks, block_size), on CPU."""
        sound = torch.ones(len(blocks), self.block_size, dtype=torch.bool)
        for layer in range(self.layout.n_layers):
            for rows in self.read_blocks(layer, blocks):
                sound &= rows.isfinite().all(-1).all(-1).cpu()
        return sound

    def _restored(self, values: Tensor, scales: Tensor | None) -> Tensor:
        if values.dtype is self.dtype:
            return values
        stored = STORED[self.kv_format.name]
        return restored(Rounded(values.view(stored), scales), self.kv_format, self.dtype)


def blocks_that_fit(
    layout: KVLayout, *, kv_memory: int, block_size: int, kv_format: KVFormat
) -> int:
    """Blocks of `block_size` tokens in `kv_memory` bytes. Raises `StartFailed` for fewer than 2."""
    block_bytes = layout.bytes_per_token(kv_format) * block_size
    n_blocks = kv_memory // block_bytes
    if n_blocks < 2:
        raise StartFailed(
            f"kv_memory of {kv_memory} bytes holds {n_blocks} blocks of {block_bytes} bytes: "
            f"give at least {2 * block_bytes}"
        )
    return n_blocks


def new_pool(
    layout: KVLayout,
    n_blocks: int,
    block_size: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    kv_format: KVFormat | None = None,
) -> KVPool:
    """An empty pool; in the compute dtype unless another format is asked for.

    Raises `StartFailed` when the device has no room for it.
    """
    kept_in = kv_format or format_of(dtype)
    shapes = {
        one.name: (layout.n_layers, n_blocks, block_size, one.heads, one.width)
        for one in layout.planes
    }
    try:
        # Zeros, not empty, so that a run does not depend on old memory. Attention does not lean on
        # it: what nobody owns is never read, whatever it holds.
        planes = {
            name: torch.zeros(shape, dtype=STORED[kept_in.name], device=device)
            for name, shape in shapes.items()
        }
        scales = {
            name: torch.zeros(shape[:-1], dtype=torch.float32, device=device)
            for name, shape in shapes.items()
            if kept_in.scale_bytes
        }
    except RuntimeError as error:
        size = layout.bytes_per_token(kept_in) * n_blocks * block_size
        raise StartFailed(
            f"no room on {device} for a KV pool of {size} bytes: lower kv_memory"
        ) from error
    return KVPool(layout, kept_in, dtype, planes, scales)


def format_of(dtype: torch.dtype) -> KVFormat:
    """The format that keeps numbers of a dtype as they are."""
    return FORMATS[str(dtype).removeprefix("torch.")]


def _store(values: Tensor, scales: Tensor | None) -> _Store:
    raw = _raw(values)
    flat = None if scales is None else scales.flatten(1, 2)
    return _Store(raw, raw.flatten(1, 2), scales, flat)


def _raw(values: Tensor) -> Tensor:
    """fp8 as bytes: torch gathers and scatters those on every device."""
    return values.view(torch.uint8) if values.dtype is torch.float8_e4m3fn else values
