"""What a policy sees: the request's size and one line for each worker. Frozen; no behaviour.

Built by `selection`, read by `policies` and `score`, kept by the decision log.
"""

from dataclasses import dataclass

from radixroute.radix.ids import WorkerId
from radixroute.router.load_book import Load
from radixroute.router.speed import Speed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker that may take the request."""

    worker_id: WorkerId
    overlap_blocks: int  # leading blocks held, the expected ones included
    expected_blocks: int  # of these, only expected
    load: Load
    speed: Speed
    kv_blocks_total: int = 0
    kv_blocks_used: int = 0
    max_batched_tokens: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """Everything one decision may depend on; equal views give equal decisions."""

    prompt_tokens: int
    block_size: int
    output_tokens: float  # expected
    candidates: tuple[Candidate, ...]  # by worker id; at least one
    cap: int  # requests in flight above which cache credit counts for nothing
    turn: int  # decisions this policy made before
    draw: int  # 64 random bits from the core's seeded generator

    def cached_tokens(self, blocks: int) -> int:
        """Prompt tokens that `blocks` leading blocks save: one is always computed."""
        return min(blocks, max(0, self.prompt_tokens - 1) // self.block_size) * self.block_size


@dataclass(frozen=True, slots=True)
class Term:
    """One addend of a score."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Score:
    """A candidate's cost: the sum of its terms, lower is better."""

    terms: tuple[Term, ...]

    @property
    def total(self) -> float:
        return sum(term.value for term in self.terms)


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy's answer."""

    chosen: int  # position in view.candidates
    reason: str  # one sentence
    scores: tuple[Score, ...]  # aligned with view.candidates
