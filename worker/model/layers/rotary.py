"""Rotary tables: cos and sin of every position, computed once at a start.

Owns the arithmetic of `Rope`, in float32 whatever the model's dtype. Pure. Called by `Ops`.
"""

import math

import torch
from torch import Tensor

from radixroute.worker.model.layers.rope import Rope, RopeScaling, Yarn


def rotary_table(rope: Rope, max_position: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin by position, each of shape (max_position, 1, width / 2)."""
    steps = torch.arange(0, rope.width, 2, dtype=torch.float32) / rope.width
    frequencies = 1.0 / rope.theta**steps
    if rope.divisors:
        frequencies = frequencies / torch.tensor(rope.divisors)
    amplitude = 1.0
    if isinstance(rope.scaling, RopeScaling):
        frequencies = _scaled(frequencies, rope.scaling)
    elif isinstance(rope.scaling, Yarn):
        frequencies = _yarn(frequencies, rope, rope.scaling)
        amplitude = rope.scaling.amplitude
    angles = torch.outer(torch.arange(max_position, dtype=torch.float32), frequencies)
    cos, sin = (table[:, None] * amplitude for table in (angles.cos(), angles.sin()))
    return cos.to(like.device, like.dtype), sin.to(like.device, like.dtype)


def _yarn(frequencies: Tensor, rope: Rope, yarn: Yarn) -> Tensor:
    def index(rotations: float) -> float:
        """Of the frequency that turns so often within the original length."""
        turns = yarn.original_max_position / (rotations * 2 * math.pi)
        return rope.width * math.log(turns) / (2 * math.log(rope.theta))

    low, high = index(yarn.beta_fast), index(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.width - 1)
    span = high - low or 0.001
    slow = ((torch.arange(len(frequencies), dtype=torch.float32) - low) / span).clamp(0, 1)
    return frequencies / yarn.factor * slow + frequencies * (1 - slow)


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
