"""What a policy sees and what it answers: one array for each quantity of the eligible workers.

Built by `selection`, read by `policies` and `score`, kept by the decision log. All arrays have
shape (workers,), are in the order of `worker_ids` and read-only. No behaviour beyond arithmetic.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Runs, WorkerId
from radixroute.router.policy import columns_layout as at

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything one decision may depend on; equal views give equal decisions."""

    prompt_tokens: int
    worker_ids: tuple[WorkerId, ...]  # in order; at least one
    overlap_blocks: Runs  # leading blocks held, the expected ones included
    expected_blocks: Runs  # of these, only expected
    table: Numbers  # a row for each quantity of `table_layout`, shape (N_ROWS, workers)
    scalars: Numbers  # what all workers share, as `table_layout` says
    cap: float  # requests in flight from which on cache credit counts for nothing
    turn: int  # decisions this policy made before
    draw: int  # 64 random bits of this request
    replica_ms: float = 0.0  # that one more copy of its longest cached prefix may cost
    session: int = 0  # 64 bits that requests of one session share
    # For policies that ask: distinct prompt blocks in use there, and those this prompt would add.
    active_blocks: Numbers | None = None
    new_blocks: Numbers | None = None

    @property
    def block_size(self) -> int:
        return int(self.scalars[at.S_BLOCK])

    @property
    def held_blocks(self) -> Runs:
        """Leading blocks held now, nothing expected."""
        held: Runs = self.overlap_blocks - self.expected_blocks
        return held

    @property
    def in_flight(self) -> Numbers:
        """Requests, other routers' included."""
        row: Numbers = self.table[at.IN_FLIGHT]
        return row

    @property
    def queued_tokens(self) -> Numbers:
        """Uncached prompt tokens given to a worker and without a first token."""
        row: Numbers = self.table[at.QUEUED]
        return row

    @property
    def max_batched_tokens(self) -> Numbers:
        """Prompt tokens a step computes; infinite: not known."""
        row: Numbers = self.table[at.MAX_BATCHED]
        return row

    def cached_tokens(self, blocks: int) -> int:
        """Prompt tokens that `blocks` leading blocks save: one token is always computed."""
        most = max(0, self.prompt_tokens - 1) // self.block_size
        return min(blocks, most) * self.block_size


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
