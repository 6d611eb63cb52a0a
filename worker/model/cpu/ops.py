"""CpuOps: the arithmetic between attention calls on one CPU thread, by kernels of our own.

Owns the choice: what a kernel takes goes to it, anything else to torch. A step of few rows is made
of hundreds of small operations; each of torch's takes microseconds to begin, and one kernel does
what six of them do. Called by layers and families through `Ops`.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from radixroute.radix.jit import entry_point
from radixroute.worker.model.cpu import product_kernels as products
from radixroute.worker.model.cpu import row_kernels as rows
from radixroute.worker.model.cpu.pairs import HAS_PAIRS
from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.ops import Ops

_F32, _BF16 = torch.float32, torch.bfloat16
_RMS_NORM = {_F32: entry_point(rows.rms_norm_f32), _BF16: entry_point(rows.rms_norm_bf16)}
_ADD_NORM = {_F32: entry_point(rows.add_norm_f32), _BF16: entry_point(rows.add_norm_bf16)}
_SWIGLU = {_F32: entry_point(rows.swiglu_f32), _BF16: entry_point(rows.swiglu_bf16)}
_PRODUCT = {_F32: entry_point(products.product_f32), _BF16: entry_point(products.product_bf16)}
_ROTATE = {_F32: entry_point(rows.rotate_f32), _BF16: entry_point(rows.rotate_bf16)}


# Up to so many rows a product waits for memory, and our kernel reads that faster than oneDNN its
# own layout (AMD Zen 4: 1.6 times for one row in bfloat16, 1.1 for four); then oneDNN is ahead.
_FEW_ROWS = {_F32: 4, _BF16: 4 if HAS_PAIRS else 2}


class CpuOps(Ops):
    """Rows in float32 or bfloat16, in main memory."""

    def __init__(self, *, packs: bool = True) -> None:
        """`packs`: a second copy of each matrix in oneDNN's own layout, made at its first use."""
        self._packs = packs
        # By the address of the matrix, which is kept so that no other gets its place.
        self._packed: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._wide = torch.empty(0, dtype=_F32)

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        run = _PRODUCT.get(x.dtype)
        if run is None or x.dim() != 2:
            return super().linear(x, linear)
        weight, bias = linear.weight, linear.bias
        address = weight.data_ptr()
        known = self._packed.get(address)
        if known is None:
            does = self._packs and _can_pack(x.dtype)
            known = self._packed[address] = weight, _packed(weight) if does else None
        n, columns = x.shape
        packed = known[1]
        if n > _FEW_ROWS[x.dtype] or not x.is_contiguous():
            if packed is None:
                return super().linear(x, linear)
            return _packed_product(x, packed, bias)
        if len(self._wide) < (needed := products.scratch_size(n, columns)):
            self._wide = torch.empty(needed, dtype=_F32)
        out = x.new_empty(n, len(weight))
        biases, has_bias = (0, 0) if bias is None else (bias.data_ptr(), 1)
        given = x.data_ptr(), self._wide.data_ptr(), address, biases, out.data_ptr()
        run(*given, n, columns, len(weight), has_bias)
        return out

    def rms_norm(self, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        run = _RMS_NORM.get(x.dtype)
        if run is None or not x.is_contiguous():
            return super().rms_norm(x, weight, eps)
        out, width = torch.empty_like(x), x.shape[-1]
        weights, weighted = (0, 0) if weight is None else (weight.data_ptr(), 1)
        run(x.data_ptr(), weights, out.data_ptr(), x.numel() // width, width, eps, weighted)
        return out

    def add_norm(self, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> Tensor:
        run = _ADD_NORM.get(x.dtype)
        if run is None or not (x.is_contiguous() and delta.is_contiguous()):
            return super().add_norm(x, delta, weight, eps)
        out, (n, width) = torch.empty_like(x), x.shape
        given = x.data_ptr(), delta.data_ptr(), weight.data_ptr(), out.data_ptr()
        run(*given, n, width, eps)
        return out

    def swiglu(self, gate_up: Tensor) -> Tensor:
        run = _SWIGLU.get(gate_up.dtype)
        if run is None or not gate_up.is_contiguous():
            return super().swiglu(gate_up)
        n, width = gate_up.shape
        out = gate_up.new_empty(n, width // 2)
        run(gate_up.data_ptr(), out.data_ptr(), n, width // 2)
        return out

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        run = _ROTATE.get(x.dtype)
        n, heads, width = x.shape
        fits = x.stride()[1:] == (width, 1) and cos.shape == (n, 1, width // 2)
        if run is None or not fits or not (cos.is_contiguous() and sin.is_contiguous()):
            return super().rotate(x, cos, sin)
        out = x.new_empty(n, heads, width)
        given = x.data_ptr(), cos.data_ptr(), sin.data_ptr(), out.data_ptr()
        run(*given, n, heads, width // 2, x.stride(0))
        return out


# What torch's own compiler freezes matrices with; it has no public name.
_mkldnn: Any = torch.ops.mkldnn
_backend: Any = torch.backends.mkldnn


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and computes in this dtype on this processor."""
    if not _backend.is_available():
        return False
    try:
        one = torch.ones(16, 16, dtype=dtype)
        return bool(_packed_product(one, _packed(one), None).eq(16).all())
    except (AttributeError, RuntimeError):
        return False


def _packed(weight: Tensor) -> Tensor:
    """For any number of rows. An opaque tensor, as large as the matrix."""
    packed: Tensor = _mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def _packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product
