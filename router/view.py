"""What a policy sees and what it answers: one array for each quantity of the eligible workers.

Built by `selection`, read by `policies` and `score`, kept by the decision log. All arrays have
shape (workers,), are in the order of `worker_ids` and read-only. No behaviour beyond arithmetic.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Runs, WorkerId

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything one decision may depend on; equal views give equal decisions."""

    prompt_tokens: int
    block_size: int
    output_tokens: float  # expected
    worker_ids: tuple[WorkerId, ...]  # in order; at least one
    overlap_blocks: Runs  # leading blocks held, the expected ones included
    expected_blocks: Runs  # of these, only expected
    in_flight: Numbers  # requests, other routers' included
    queued_tokens: Numbers  # uncached prompt tokens before a new request
    decoding: Numbers  # requests that have their first token
    ms_per_prefill_token: Numbers
    step_base_ms: Numbers
    ms_per_decode: Numbers
    free_kv_blocks: Numbers  # infinite: not known
    max_batched_tokens: Numbers  # prompt tokens a step computes; infinite: not known
    cap: int  # requests in flight above which cache credit counts for nothing
    turn: int  # decisions this policy made before
    draw: int  # 64 random bits from the core's seeded generator

    @property
    def max_cached_blocks(self) -> int:
        """Leading blocks that can save work: one prompt token is always computed."""
        return max(0, self.prompt_tokens - 1) // self.block_size

    def cached_tokens(self, blocks: int) -> int:
        """Prompt tokens that `blocks` leading blocks save."""
        return min(blocks, self.max_cached_blocks) * self.block_size


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The costs of all workers: each is the sum of its terms, lower is better."""

    names: tuple[str, ...]  # of the terms
    units: tuple[str, ...]
    terms: Numbers  # shape (terms, workers)

    @property
    def totals(self) -> Numbers:
        """Shape (workers,)."""
        totals: Numbers = np.add.reduce(self.terms)
        return totals


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A policy's answer."""

    chosen: int  # position in view.worker_ids
    reason: str  # one sentence
    scores: Scores
