"""Model runner: the seam between scheduling and computing, and what one step asks of a model.

Owns the records of a step and the `ModelRunner` Protocol; no torch, no logic. The scheduler's side
makes a `StepPlan`, a runner (torch, or a fake in tests) computes it. Within a step every layer
writes K and V of all slices before attention reads, so a slice may attend to blocks that an earlier
slice fills in the same step.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Tokens
from radixroute.request.logprobs import TokenLogprob
from radixroute.request.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class History:
    """All tokens of a sequence so far, for penalties on what was said before."""

    tokens: Tokens  # shape (n_prompt + output,): a view, good until the step is committed
    n_prompt: int  # the rest is output, that of earlier attempts included


@dataclass(frozen=True, slots=True)
class SequenceSlice:
    """One sequence's share of a step."""

    token_ids: Tokens  # shape (q,): the tokens to compute now
    # Absolute position of token_ids[0]. KV of positions before it is in the pool, or is written in
    # this same step by an earlier slice.
    start: int
    # shape (ceil((start + q) / block_size) - first_block,): block ids
    block_table: NDArray[np.int32]
    # None: no token is sampled (an inner prefill chunk); else one is, from the last token's
    # logits, with the RNG keyed by (seed, start + q).
    sampling: SamplingParams | None
    # Ids that may not be sampled: what would end the answer before its `min_tokens`.
    forbidden: tuple[int, ...] = ()
    adapter: str = ""  # one of the model's; empty: the model as it is
    history: History | None = None  # None: its sampling looks at none, or no token is sampled
    first_block: int = (
        0  # which block of the sequence the table begins with: others left the window
    )


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Everything one step computes."""

    slices: tuple[SequenceSlice, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a plan. A slice is unsound when its last token gave NaN or infinity."""

    token_ids: tuple[int, ...]  # one for each sound slice that samples, in slice order
    unsound_slices: frozenset[int] = frozenset()  # their places in the plan
    # Of the blocks in their tables, those that hold NaN or infinity: the same would come again.
    unsound_blocks: frozenset[int] = frozenset()
    # One for each of `token_ids`, None where they were not asked for; empty: nowhere.
    logprobs: tuple[TokenLogprob | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the scheduler's side must know of a loaded model. Lengths in tokens or blocks."""

    model: str
    block_size: int
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    fingerprint: str  # hexadecimal, of the weights and the configuration
    dtype: str  # that it computes in
    device: str
    kv_blocks_total: int
    adapters: tuple[str, ...] = ()  # that it computes with beside the model as it is
    kv_dtype: str = ""  # of the KV pool; empty: `dtype`
    # Tokens that a token sees, itself among them, where every layer has that sliding window. None
    # where one sees all before it.
    window: int | None = None


class ModelRunner(Protocol):
    """A model with its KV pool."""

    @property
    def facts(self) -> ModelFacts: ...

    def execute(self, plan: StepPlan) -> StepResult:
        """Compute a step. One slice's numbers never change what comes of another."""
        ...
