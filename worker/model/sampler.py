"""Sampler: chooses tokens, greedily or by temperature, top-k and top-p with a keyed random number.

The random number of a token depends on (seed, absolute position) alone: neither the batch nor an
interruption changes it, so a request resumed elsewhere goes on with the same stream. Pure functions
over logits. Called by `torch_runner`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radixroute.request.sampling import SamplingParams

# Sorting a whole vocabulary costs milliseconds a token; the best few hundred nearly always hold
# top_p. When they do not, everything is sorted.
_NUCLEUS_WIDTH = 512


def sample(logits: Tensor, choices: Sequence[tuple[SamplingParams, int]]) -> tuple[int | None, ...]:
    """One token id a row; None where the row holds NaN or +inf, or nothing above -inf.

    Shape (n, vocab), float32; `choices` has (parameters, position) a row.
    """
    best, ids = logits.max(dim=-1)  # NaN where there is one
    sound, greedy = best.isfinite().tolist(), ids.tolist()
    return tuple(
        None
        if not sound[row]
        else greedy[row]
        if params.is_greedy
        else _draw(logits[row], params, position)
        for row, (params, position) in enumerate(choices)
    )


def forbid(logits: Tensor, forbidden: Sequence[Sequence[int]]) -> None:
    """Give the ids of each row's list no chance, in place. Ids outside the vocabulary have none."""
    for row, ids in enumerate(forbidden):
        if ids:
            logits[row, [token_id for token_id in ids if token_id < logits.shape[1]]] = -math.inf


def uniform(seed: int, position: int) -> float:
    """In [0, 1): Philox4x64-10 keyed by (seed, position), the first number of its stream."""
    key = np.array([seed, position], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def _draw(logits: Tensor, params: SamplingParams, position: int) -> int:
    scaled = logits.double() / params.temperature
    point = uniform(params.seed, position)
    if 0 < params.top_k < len(scaled):
        values, ids = _best(scaled, params.top_k)
        probabilities = torch.softmax(values, dim=-1)
    elif params.top_p < 1.0:
        probabilities, ids = _nucleus(scaled, params.top_p)
    else:
        return _invert(torch.softmax(scaled, dim=-1).cumsum(dim=-1), point)
    cumulative = probabilities.cumsum(dim=-1)
    # Tokens whose predecessors hold top_p already are out; the first always stays.
    kept = int(((cumulative - probabilities) < params.top_p).sum())
    return int(ids[_invert(cumulative[:kept], point)])


def _best(scaled: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n best, best first, equals in order of ids: what a stable sort of all would give."""
    least = scaled.topk(n).values[-1]
    ids = (scaled >= least).nonzero().flatten()
    values, order = scaled[ids].sort(descending=True, stable=True)
    return values[:n], ids[order[:n]]


def _nucleus(scaled: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of enough tokens, best first, to hold top_p of the mass."""
    total = scaled.logsumexp(dim=-1)
    for n in (min(_NUCLEUS_WIDTH, len(scaled)), len(scaled)):
        values, ids = _best(scaled, n)
        probabilities = (values - total).exp()
        if float(probabilities.sum()) >= top_p:
            break
    return probabilities, ids


def _invert(cumulative: Tensor, point: float) -> int:
    """The first place whose cumulative mass is above `point` of the whole."""
    mass = float(cumulative[-1])
    index = int(torch.searchsorted(cumulative, point * mass, right=True))
    # Rounding can push the point onto the whole mass: then the last token that has any.
    return min(index, int(torch.searchsorted(cumulative, mass)))
