"""Telling: log probabilities of a token and of the most likely ones, as the model has them.

Of its own distribution: before ends are forbidden, before biases, penalties and temperature. Pure.
"""

import torch
from torch import Tensor

from radixroute.request.logprobs import TokenLogprob
from radixroute.worker.model.sampling.ordering import best_of


def tell(row: Tensor, token_id: int, n_top: int) -> TokenLogprob:
    """`row`: untouched logits, shape (vocab,), float64."""
    total = torch.logsumexp(row, dim=-1)
    logprob = float(row[token_id] - total)
    if not n_top:
        return TokenLogprob(logprob)
    values, ids = best_of(row, min(n_top, len(row)))
    return TokenLogprob(logprob, tuple(zip(ids.tolist(), (values - total).tolist(), strict=True)))
