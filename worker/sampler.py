"""Choosing tokens: greedy, or by temperature, top-k and top-p with a keyed random number.

The random number of a token depends on (seed, absolute position) alone: neither the batch nor an
interruption changes it, so a request resumed elsewhere goes on with the same stream. Pure functions
over logits. Called by `torch_runner`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radixroute.request.sampling import SamplingParams


def sample(logits: Tensor, choices: Sequence[tuple[SamplingParams, int]]) -> tuple[int, ...]:
    """One token id a row. Shape (n, vocab), float32; `choices` has (parameters, position) a row."""
    greedy = logits.argmax(dim=-1).tolist()
    return tuple(
        greedy[row] if params.is_greedy else _draw(logits[row], params, position)
        for row, (params, position) in enumerate(choices)
    )


def uniform(seed: int, position: int) -> float:
    """In [0, 1): Philox4x64-10 keyed by (seed, position), the first number of its stream."""
    key = np.array([seed, position], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def _draw(logits: Tensor, params: SamplingParams, position: int) -> int:
    """Inverse of the cumulative distribution, most likely tokens first."""
    scaled = logits.double() / params.temperature
    kept = params.top_k if 0 < params.top_k < len(scaled) else len(scaled)
    # Stable and in order of ids among equals: the same logits give the same token everywhere.
    values, ids = torch.sort(scaled, descending=True, stable=True)
    probabilities = torch.softmax(values[:kept], dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    if params.top_p < 1.0:
        # Tokens whose predecessors hold top_p already are out; the first always stays.
        kept = int(((cumulative - probabilities) < params.top_p).sum())
    mass = float(cumulative[kept - 1])
    at = int(
        torch.searchsorted(cumulative[:kept], uniform(params.seed, position) * mass, right=True)
    )
    return int(ids[min(at, kept - 1)])
