"""The sampler again, in numpy and float64, as it is defined: slow, sorted, one row each."""

import numpy as np

from radixroute.request.sampling import SamplingParams


def own_logprobs(logits: np.ndarray) -> np.ndarray:
    """Of the distribution as the model has it."""
    row = logits.astype(np.float64)
    return row - _logsumexp(row)


def shaped(logits, params: SamplingParams, prompt=(), output=(), forbidden=()) -> np.ndarray:
    """Logits after ends, biases and penalties, in vLLM's order."""
    row: np.ndarray = logits.astype(np.float64)
    for token_id in forbidden:
        row[token_id] = -np.inf
    for token_id, bias in params.logit_bias:
        row[token_id] += bias
    for token_id in {*prompt, *output}:
        if row[token_id] > 0:
            row[token_id] /= params.repetition_penalty
        else:
            row[token_id] *= params.repetition_penalty
    for token_id in set(output):
        row[token_id] -= params.frequency_penalty * list(output).count(token_id)
        row[token_id] -= params.presence_penalty
    return row


def token(logits, params: SamplingParams, position, prompt=(), output=(), forbidden=()) -> int:
    """The id that comes at this absolute position."""
    row = shaped(logits, params, prompt, output, forbidden)
    if params.temperature == 0.0:
        return int(np.argmax(row))  # the first of equals
    scaled = row / params.temperature
    probabilities = _softmax(scaled)
    ids = np.arange(len(row))
    # Whatever is cut by none of the three is drawn from in order of ids, else best first.
    if params.min_p:
        ids = ids[probabilities >= params.min_p * probabilities.max()]
    if 0 < params.top_k < len(ids) or params.top_p < 1.0:
        ids = ids[np.argsort(-scaled[ids], kind="stable")]
        ids = ids[: params.top_k or None]
        kept = _softmax(scaled[ids])
        ids = ids[np.cumsum(kept) - kept < params.top_p]
    mass = np.cumsum(_softmax(scaled)[ids])
    key = np.array([params.seed, position], np.uint64)
    point = np.random.Generator(np.random.Philox(key=key)).random()
    return int(ids[np.searchsorted(mass, point * mass[-1], side="right")])


def _softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row - _logsumexp(row))


def _logsumexp(row: np.ndarray) -> float:
    most = row.max()
    return float(most + np.log(np.exp(row - most).sum()))
