"""Rounding: a tensor as a KV format keeps it, and back. Pure functions over torch tensors.

A token's row of one head is rounded by itself, so a number in the pool depends on its own row only.
Finite numbers (up to 3e38) stay finite in float16, int8 and fp8. What is NaN or infinite is read as
no number either, so that a sequence that computed one is found, however its KV is kept.

    float32, float16, bfloat16   the nearest, ties to even; float16 saturates at 65,504
    int8       round half to even of x / scale; scale = largest magnitude of the row / 127, float32.
               A scale below the smallest normal float32 is 0, and so is the row
    fp8_e4m3   the nearest, ties to even, saturating at 448; no scale
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from radixroute.worker.model.kv.formats import FP8_E4M3, INT8, KVFormat

STORED = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "fp8_e4m3": torch.float8_e4m3fn,
}

_LARGEST_INT8 = 127.0
_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny
_FP8_NAN = 127  # the bits of the only NaN that `rounded` writes


@dataclass(frozen=True, slots=True)
class Rounded:
    """Rows of one plane as they are kept."""

    values: Tensor  # (rows, heads, width), of the format's dtype
    scales: Tensor | None  # (rows, heads), float32; None: the format has none


def rounded(x: Tensor, kv_format: KVFormat) -> Rounded:
    """(rows, heads, width) of float32 or bfloat16 -> what the format keeps of it."""
    if kv_format is INT8:
        return _int8(x.float())
    stored = STORED[kv_format.name]
    if x.dtype is stored:
        return Rounded(x, None)
    if stored in (torch.float16, torch.float8_e4m3fn):
        x = _saturated(x, torch.finfo(stored).max)
    return Rounded(x.to(stored), None)


def restored(kept: Rounded, kv_format: KVFormat, dtype: torch.dtype) -> Tensor:
    """The numbers again, in the dtype that attention computes in; of any leading shape."""
    if kept.scales is not None:
        return (kept.values * kept.scales.unsqueeze(-1)).to(dtype)
    if kv_format is FP8_E4M3 and kept.values.device.type == "cpu":
        return _from_fp8(kept.values).to(dtype)
    return kept.values.to(dtype)


def _int8(x: Tensor) -> Rounded:
    scales = x.abs().amax(dim=-1) / _LARGEST_INT8
    # What is smaller divides badly: subnormal scales have few bits, and hardware may flush them.
    scales = scales.masked_fill(scales < _SMALLEST_NORMAL, 0.0)
    # 0 * NaN is NaN, whatever the values: a row that holds no numbers reads as none at all.
    is_number = scales.isfinite()
    scales = scales.masked_fill(~is_number, float("nan"))
    divisors = scales.masked_fill(~is_number | (scales == 0), float("inf"))
    steps = (x / divisors.unsqueeze(-1)).round_()
    steps = steps.nan_to_num_(nan=0.0).clamp_(-_LARGEST_INT8, _LARGEST_INT8)
    return Rounded(steps.to(torch.int8), scales)


def _saturated(x: Tensor, largest: float) -> Tensor:
    """Finite numbers within the range; infinities become NaN, as e4m3 has no infinity."""
    return torch.where(x.isfinite(), x.clamp(-largest, largest), float("nan"))


def _from_fp8(values: Tensor) -> Tensor:
    """float8_e4m3fn -> float16, which holds all of its numbers; three times faster than torch's.

    Its exponent has 4 bits and a bias of 7, that of float16 5 and 15: the same bits, moved, are the
    number times 2^-8, subnormal ones too. NaN alone has other bits, and is rare: torch reads it.
    """
    codes = values.view(torch.int8)
    if codes.numel() and int(codes.max()) == _FP8_NAN:
        return values.to(torch.float16)
    moved = codes.to(torch.int16).bitwise_left_shift_(7).bitwise_and_(-0x4080)
    return moved.view(torch.float16).mul_(256.0)
