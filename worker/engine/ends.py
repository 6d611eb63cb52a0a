"""Ends: which tokens end an answer, and from when on. As in vLLM, `min_tokens` others come first.

Pure. Called by `Scheduler` before a token is sampled and after.
"""

from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.sequence import Sequence


def forbidden_ends(sequence: Sequence, eos_token_ids: frozenset[int]) -> tuple[int, ...]:
    """End tokens that may not be sampled yet."""
    sampling = sequence.request.sampling
    if sequence.n_output >= sampling.min_tokens:
        return ()
    eos = () if sampling.ignore_eos else eos_token_ids
    return (*sorted(eos), *sampling.stop_token_ids)


def finish_after(
    sequence: Sequence, token_id: int, eos_token_ids: frozenset[int]
) -> FinishReason | None:
    """Whether the answer is over with this token, its last so far."""
    sampling = sequence.request.sampling
    if sequence.n_output > sampling.min_tokens:
        is_eos = token_id in eos_token_ids and not sampling.ignore_eos
        if is_eos or token_id in sampling.stop_token_ids:
            return FinishReason.STOP
    return FinishReason.LENGTH if sequence.n_output >= sampling.max_tokens else None
