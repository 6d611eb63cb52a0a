"""Sampler: chooses tokens, greedily or by temperature, min_p, top-k and top-p with a keyed random
number, and tells what the model thought of them.

The random number of a token depends on (seed, absolute position) alone, and what shapes a row on
its own tokens alone: neither the batch nor an interruption changes either, so a request resumed
elsewhere goes on with the same stream. Pure functions over logits. Called by `torch_runner`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radixroute.request.logprobs import TokenLogprob
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.runner import History
from radixroute.worker.model.sampling.ordering import best_of
from radixroute.worker.model.sampling.shaping import forbid, shape
from radixroute.worker.model.sampling.telling import tell

# Sorting a whole vocabulary costs milliseconds a token; the best few hundred nearly always hold
# top_p. When they do not, everything is sorted.
_NUCLEUS_WIDTH = 512


class Choice(NamedTuple):
    """What one row's token is chosen by."""

    params: SamplingParams
    position: int  # of the token, absolute
    forbidden: tuple[int, ...] = ()
    history: History | None = None


def choose(
    logits: Tensor, choices: Sequence[Choice]
) -> tuple[tuple[int | None, ...], dict[int, TokenLogprob]]:
    """The ids, as `sample` says, and by row the log probabilities that were asked for.

    Shape (n, vocab), float32; forbidden ids are struck out of it.
    """
    asked = [row for row, choice in enumerate(choices) if choice.params.logprobs is not None]
    own = {row: logits[row].double() for row in asked}  # a copy: it comes before what is forbidden
    forbid(logits, [choice.forbidden for choice in choices])
    ids = sample(logits, choices)
    told = {}
    for row in asked:
        token_id, n_top = ids[row], choices[row].params.logprobs
        if token_id is not None and n_top is not None:
            told[row] = tell(own[row], token_id, n_top)
    return ids, told


def sample(logits: Tensor, choices: Sequence[Choice]) -> tuple[int | None, ...]:
    """One token id a row; None where the row holds NaN or +inf, or nothing above -inf."""
    best, ids = logits.max(dim=-1)  # NaN where there is one
    sound, greedy = best.isfinite().tolist(), ids.tolist()
    return tuple(
        None
        if not sound[row]
        else greedy[row]
        if choice.params.is_greedy and not choice.params.shapes_logits
        else _draw(logits[row].double(), choice)
        for row, choice in enumerate(choices)
    )


def uniform(seed: int, position: int) -> float:
    """In [0, 1): Philox4x64-10 keyed by (seed, position), the first number of its stream."""
    key = np.array([seed, position], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def _draw(row: Tensor, choice: Choice) -> int:
    """`row`: its own, to be changed."""
    params = choice.params
    if params.shapes_logits:
        shape(row, params, choice.history)
        if params.is_greedy:
            return int(row.max(dim=-1).indices)
    scaled = row / params.temperature
    point = uniform(params.seed, choice.position)
    if not params.min_p:
        return _pick(scaled, params, point)
    ids = (scaled >= scaled.max() + math.log(params.min_p)).nonzero().flatten()
    return int(ids[_pick(scaled[ids], params, point)])


def _pick(scaled: Tensor, params: SamplingParams, point: float) -> int:
    """The place of the token at `point` of the mass that top-k and top-p leave."""
    if 0 < params.top_k < len(scaled):
        values, ids = best_of(scaled, params.top_k)
        probabilities = torch.softmax(values, dim=-1)
    elif params.top_p < 1.0:
        probabilities, ids = _nucleus(scaled, params.top_p)
    else:
        return _invert(torch.softmax(scaled, dim=-1).cumsum(dim=-1), point)
    cumulative = probabilities.cumsum(dim=-1)
    # Tokens whose predecessors hold top_p already are out; the first always stays.
    kept = int(((cumulative - probabilities) < params.top_p).sum())
    return int(ids[_invert(cumulative[:kept], point)])


def _nucleus(scaled: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of enough tokens, best first, to hold top_p of the mass."""
    total = scaled.logsumexp(dim=-1)
    for n in (min(_NUCLEUS_WIDTH, len(scaled)), len(scaled)):
        values, ids = best_of(scaled, n)
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
