"""Sequence: one request while the scheduler has it, its tokens, its blocks, how far it is computed.

Owns the growing token buffer and the counts of the prompt report. Decides nothing: the scheduler
moves it between waiting and running and alone calls it. No clock, no torch.

    tokens:  [ prompt | emitted before (resume) | generated here ......... free ]
                                  n_resumed ^ = n_prompt + len(emitted)
    0 <= n_computed < n_tokens always: the last token's logits choose the next one.
"""

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Tokens
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.engine import EngineRequest, PromptReport, TokenOutput
from radixroute.worker.engine.lease import BlockLease
from radixroute.worker.engine.runner import History


class Sequence:
    """Mutable state of one attempt at a request."""

    __slots__ = (
        "_buffer",
        "admitted_at",
        "arrived_ns",
        "cached_tokens",
        "first_scheduled_ns",
        "has_output",
        "lease",
        "likely_cached",
        "n_computed",
        "n_lost",
        "n_tokens",
        "reads_history",
        "recomputed_tokens",
        "request",
    )

    def __init__(self, request: EngineRequest, now_ns: int) -> None:
        n_known = len(request.prompt) + len(request.emitted)
        capacity = max(n_known, len(request.prompt) + request.sampling.max_tokens)
        self.request = request
        self._buffer: Tokens = np.empty(capacity, dtype=np.uint32)
        self._buffer[: len(request.prompt)] = request.prompt
        self._buffer[len(request.prompt) : n_known] = request.emitted
        self.n_tokens = n_known
        self.n_computed = 0
        self.lease: BlockLease | None = None
        self.arrived_ns = now_ns
        self.first_scheduled_ns: int | None = None
        self.likely_cached = 0  # tokens the cache held at submit; for load reports only
        self.cached_tokens: int | None = None  # None: never admitted
        self.admitted_at = (0, 0)  # of the cache's events, when it was first admitted
        self.recomputed_tokens = 0
        self.n_lost = 0  # tokens computed before the last preemption
        self.has_output = False  # of this attempt
        self.reads_history = request.sampling.reads_history

    @property
    def key(self) -> tuple[str, int]:
        return (self.request.request_id, self.request.attempt)

    @property
    def tokens(self) -> Tokens:
        """Everything known: prompt, emitted and generated tokens. A view."""
        return self._buffer[: self.n_tokens]

    @property
    def history(self) -> History | None:
        """What its sampling goes by beside the logits; None: nothing."""
        if not self.reads_history:
            return None
        return History(self.tokens, len(self.request.prompt))

    @property
    def n_output(self) -> int:
        return self.n_tokens - len(self.request.prompt)

    @property
    def n_remaining(self) -> int:
        """Tokens to compute before the next one can be sampled; at least 1."""
        return self.n_tokens - self.n_computed

    @property
    def n_queued(self) -> int:
        """Uncached tokens not computed yet, as far as known."""
        if self.has_output and self.n_remaining == 1:
            return 0
        return self.n_tokens - max(self.n_computed, self.likely_cached)

    @property
    def held(self) -> BlockLease:
        if self.lease is None:
            raise BrokenInvariant(f"request {self.request.request_id} runs without blocks")
        return self.lease

    def admit(
        self, lease: BlockLease, n_cached: int, now_ns: int, position: tuple[int, int] = (0, 0)
    ) -> None:
        """Blocks are here and `n_cached` leading tokens need no computing.

        `position`: of the cache's events, when that was looked up.
        """
        self.lease = lease
        self.n_computed = n_cached
        n_prompt = len(self.request.prompt)
        if self.cached_tokens is None:
            self.cached_tokens = min(n_cached, n_prompt)
            self.first_scheduled_ns = now_ns
            self.admitted_at = position
            self.recomputed_tokens = self.n_tokens - max(n_cached, n_prompt)
        else:
            self.recomputed_tokens += max(0, self.n_lost - n_cached)
        self.likely_cached = 0

    def preempt(self) -> BlockLease:
        """Give the blocks up; everything is computed again later."""
        lease = self.held
        self.lease = None
        self.n_lost = self.n_computed
        self.n_computed = 0
        return lease

    def append(self, token_id: int) -> None:
        self._buffer[self.n_tokens] = token_id
        self.n_tokens += 1

    def output(
        self, token_ids: tuple[int, ...], finish: FinishReason | None, error: str = ""
    ) -> TokenOutput:
        """`token_ids` are the last tokens of the buffer."""
        return TokenOutput(
            request_id=self.request.request_id,
            attempt=self.request.attempt,
            session_id=self.request.session_id,
            position=self.n_output - len(token_ids),
            token_ids=token_ids,
            finish=finish,
            error=error,
        )

    def report(self, now_ns: int) -> PromptReport:
        """How the prompt was served, at the first token."""
        scheduled_ns = self.first_scheduled_ns
        began_ns = self.arrived_ns if scheduled_ns is None else scheduled_ns
        return PromptReport(
            prompt_tokens=len(self.request.prompt),
            cached_tokens=self.cached_tokens or 0,
            recomputed_tokens=self.recomputed_tokens,
            queue_ms=(began_ns - self.arrived_ns) / 1e6,
            prefill_ms=(now_ns - began_ns) / 1e6,
            event_seq=self.admitted_at[0],
            events_before=self.admitted_at[1],
        )
