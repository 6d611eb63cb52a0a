"""Rotary tables: cos and sin of every position, computed once at a start.

Owns the arithmetic of `Rope`, in float32 whatever the model's dtype. Pure. Called by `Ops`.
"""

import math

import torch
from torch import Tensor

from radixroute.worker.model.layers.rope import Rope, RopeScaling


def rotary_table(rope: Rope, max_position: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin by position, each of shape (max_position, 1, width / 2)."""
    steps = torch.arange(0, rope.width, 2, dtype=torch.float32) / rope.width
    frequencies = 1.0 / rope.theta**steps
    if rope.divisors:
        frequencies = frequencies / torch.tensor(rope.divisors)
    if rope.scaling is not None:
        frequencies = _scaled(frequencies, rope.scaling)
    angles = torch.outer(torch.arange(max_position, dtype=torch.float32), frequencies)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return cos.to(like.device, like.dtype), sin.to(like.device, like.dtype)


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, between them a ramp."""
    wavelengths = 2 * math.pi / frequencies
    low = scaling.original_max_position / scaling.low_freq_factor
    high = scaling.original_max_position / scaling.high_freq_factor
    ramp = (scaling.original_max_position / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - ramp) * frequencies / scaling.factor + ramp * frequencies
    scaled = torch.where(wavelengths > low, frequencies / scaling.factor, between)
    return torch.where(wavelengths < high, frequencies, scaled)
