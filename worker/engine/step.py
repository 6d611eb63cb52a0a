"""What one step of the engine computes, and the records around the scheduler that plans it.

Frozen but for the counters; no decisions, no torch. Made by `Scheduler`, read by `InferenceEngine`.
"""

from dataclasses import dataclass

from radixroute.worker.engine.runner import StepPlan
from radixroute.worker.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """The scheduler's knobs, named as in vLLM. Lengths in tokens."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_waiting: int
    watermark_blocks: int
    preemption_order: str  # youngest or least_computed
    eos_token_ids: frozenset[int]
    adapters: frozenset[str] = frozenset()  # that requests may name


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """One sequence's part of a step: its next `n_tokens` uncomputed tokens."""

    sequence: Sequence
    n_tokens: int
    samples: bool  # all known tokens are computed then: the next one is sampled
    is_decode: bool


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """What one step computes, in the order of the plan's slices."""

    sequences: tuple[ScheduledSequence, ...]
    plan: StepPlan

    @property
    def prefill_tokens(self) -> int:
        return sum(part.n_tokens for part in self.sequences if not part.is_decode)

    @property
    def decode_tokens(self) -> int:
        return sum(part.n_tokens for part in self.sequences if part.is_decode)


@dataclass(slots=True)
class SchedulerCounters:
    """What happened since the scheduler began."""

    preemptions: int = 0
    resumed: int = 0
    finished: int = 0
    aborted: int = 0
    failed: int = 0
    refused: int = 0
    unknown_inquiries: int = 0  # their end had been said, or was lost
    unknown_aborts: int = 0  # crossed the end of their request
