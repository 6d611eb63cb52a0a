"""Shaping: what changes a row of logits before a token is drawn. In vLLM's order, in float64.

First ids that may not come yet, then biases, then the repetition penalty over prompt and output,
then frequency and presence over output alone. Pure but for the row it is given.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.runner import History


def forbid(logits: Tensor, forbidden: Sequence[Sequence[int]]) -> None:
    """Give the ids of each row's list no chance, in place. Ids outside the vocabulary have none."""
    for row, ids in enumerate(forbidden):
        if ids:
            logits[row, [token_id for token_id in ids if token_id < logits.shape[1]]] = -math.inf


def shape(row: Tensor, params: SamplingParams, history: History | None) -> None:
    """Apply biases and penalties in place. Shape (vocab,), float64."""
    if params.logit_bias:
        ids, biases = zip(*params.logit_bias, strict=True)
        row[list(ids)] += torch.tensor(biases, dtype=row.dtype, device=row.device)
    if history is None:
        return
    seen = torch.from_numpy(history.tokens.astype(np.int64)).to(row.device)
    if params.repetition_penalty != 1.0:
        # The same value is written for each time an id was there.
        logits = row[seen]
        penalty = params.repetition_penalty
        row[seen] = torch.where(logits > 0, logits / penalty, logits * penalty)
    if params.reads_output:
        # Of integers a product with a number would be float32.
        counts = torch.bincount(seen[history.n_prompt :], minlength=len(row)).to(row.dtype)
        row -= params.frequency_penalty * counts
        row -= params.presence_penalty * (counts > 0)
