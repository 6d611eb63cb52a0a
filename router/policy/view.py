"""View: what a policy sees of the fleet, and what it answers. Plain data.

Built by `Snapshot`, judged by policies, kept by the decision log. All arrays have shape (workers,),
are in the order of `worker_ids` and read-only.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Runs, WorkerId
from radixroute.router.policy import columns_layout as at

Numbers: TypeAlias = NDArray[np.float64]

# Costs this close are the same: below what step timings can tell.
TIE_MS = 1e-6


def cacheable_blocks(prompt_tokens: Any, block_size: Any) -> Any:
    """Leading blocks that can save a prompt anything: one token is always computed.

    Kernels compile it, too.
    """
    return max(prompt_tokens - 1, 0) // block_size


@dataclass(frozen=True, slots=True)
class Excluded:
    """A worker that could not be chosen, and why."""

    worker_id: WorkerId
    because: str


class View(msgspec.Struct, frozen=True, eq=False):
    """Everything one decision may depend on; equal views give equal decisions."""

    prompt_tokens: int
    block_size: int  # tokens
    worker_ids: tuple[WorkerId, ...]  # in order; at least one
    overlap_blocks: Runs  # leading blocks held, the expected ones included
    expected_blocks: Runs  # of these, only expected
    table: Numbers  # a row for each quantity of `columns_layout`, shape (N_ROWS, workers)
    draw: int  # 64 random bits of this request
    excluded: tuple[Excluded, ...] = ()
    own: Any = None  # what only the policy that judges it needs beside that; its own record

    def with_own(self, own: object) -> "View":
        """The same, with what the policy adds."""
        return View(
            self.prompt_tokens,
            self.block_size,
            self.worker_ids,
            self.overlap_blocks,
            self.expected_blocks,
            self.table,
            self.draw,
            self.excluded,
            own,
        )

    def among(self, is_kept: NDArray[np.bool_], because: str) -> "View | None":
        """Of these workers only, shape (workers,); the others are excluded. None: of nobody."""
        if not is_kept.any():
            return None
        kept = np.flatnonzero(is_kept)
        gone = [Excluded(self.worker_ids[w], because) for w in np.flatnonzero(~is_kept).tolist()]
        overlap, expected = self.overlap_blocks[kept], self.expected_blocks[kept]
        table = np.ascontiguousarray(self.table[:, kept])
        for array in (overlap, expected, table):
            array.setflags(write=False)
        return View(
            self.prompt_tokens,
            self.block_size,
            tuple(self.worker_ids[w] for w in kept.tolist()),
            overlap,
            expected,
            table,
            self.draw,
            (*self.excluded, *gone),
            self.own,
        )

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

    def cached_tokens(self, blocks: int) -> int:
        """Prompt tokens that `blocks` leading blocks save."""
        size = self.block_size
        return int(min(blocks, cacheable_blocks(self.prompt_tokens, size)) * size)

    @property
    def uncached_tokens(self) -> Numbers:
        """Prompt tokens that each worker would have to compute."""
        size = self.block_size
        most = cacheable_blocks(self.prompt_tokens, size)
        uncached: Numbers = self.prompt_tokens - np.minimum(self.overlap_blocks, most) * float(size)
        return uncached


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
    """Which worker of a view, and why."""

    chosen: int  # position in view.worker_ids
    reason: str  # one sentence; empty: the scores say it
    scores: Scores
