"""Scheduler: which tokens of which requests the next step computes.

Continuous batching with chunked prefill. Owns the queues of waiting and running requests and moves
blocks through the `PrefixCache`. Sans-I/O and deterministic: (state, inputs) -> plan; no clock, no
torch. One token budget for each step: running requests first, oldest first, then waiting ones first
come first served. Too little memory preempts the youngest running request, which is recomputed
later; the oldest one is never preempted, so something always ends. Called by `InferenceEngine`:
`schedule`, then `commit` or `fail`.
"""

from collections import deque
from collections.abc import Iterator

import msgspec
import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.request.errors import InvalidRequest, NoRoom
from radixroute.request.logprobs import TokenLogprob, pack_logprobs
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.cache import PrefixCache
from radixroute.worker.engine.ends import finish_after, forbidden_ends
from radixroute.worker.engine.engine import NOT_HERE, EngineRequest, TokenOutput
from radixroute.worker.engine.runner import SequenceSlice, StepPlan, StepResult
from radixroute.worker.engine.sequence import Sequence
from radixroute.worker.engine.step import (
    ScheduledSequence,
    ScheduledStep,
    SchedulerCounters,
    SchedulerLimits,
)
from radixroute.worker.engine.window import most_blocks_at_once

STEP_FAILED = "the engine failed on a step with this request; sending it again may work"
UNSOUND = "the model computed NaN or infinity for this request; sending it again may work"


class Scheduler:
    """Requests from submit to finish."""

    def __init__(self, cache: PrefixCache, limits: SchedulerLimits) -> None:
        self.counters = SchedulerCounters()
        self._cache = cache
        self._limits = limits
        self._sequences: dict[tuple[str, int], Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # in order of admission
        self._ended: list[TokenOutput] = []  # ends that no step produced
        self._open: ScheduledStep | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._sequences or self._ended)

    def sequences(self) -> Iterator[Sequence]:
        return iter(self._sequences.values())

    def submit(self, request: EngineRequest, now_ns: int) -> None:
        """Queue a request. Raises `InvalidRequest` for one that could never run."""
        try:
            self._refuse_impossible(request)
        except InvalidRequest:
            self.counters.refused += 1
            raise
        sequence = Sequence(request, now_ns)
        finish = self._already_done(sequence)
        if finish is not None:
            self._ended.append(sequence.output((), finish))
            return
        sequence.likely_cached = self._cache.cached_tokens(sequence.tokens, request.scope)
        self.counters.resumed += len(request.emitted) > 0
        self._sequences[sequence.key] = sequence
        self._waiting.append(sequence)

    def abort(self, request_id: str, attempt: int) -> None:
        """End a request now and free its blocks; an unknown one has ended already."""
        sequence = self._sequences.get((request_id, attempt))
        if sequence is None:
            self.counters.unknown_aborts += 1
            return
        self._drop(sequence)
        self.counters.aborted += 1
        self._ended.append(sequence.output((), FinishReason.ABORT))

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        """One that is not here ends once more: what it had to say is said, or was lost."""
        if (request_id, attempt) in self._sequences:
            return
        self.counters.unknown_inquiries += 1
        end = FinishReason.ABORT
        self._ended.append(TokenOutput(request_id, attempt, session_id, 0, (), end, NOT_HERE))

    def take_ended(self) -> list[TokenOutput]:
        """Ends since the last call that belong to no step: aborts, and resumes already complete."""
        ended, self._ended = self._ended, []
        return ended

    def schedule(self, now_ns: int) -> ScheduledStep | None:
        """Choose the next step's work; None when there is none."""
        if self._open is not None:
            raise BrokenInvariant("a step is scheduled inside another")
        scheduled: list[ScheduledSequence] = []
        slices: list[SequenceSlice] = []
        budget = self._limits.max_num_batched_tokens
        preempted = self.counters.preemptions
        index = 0
        while index < len(self._running) and budget:
            sequence = self._running[index]
            n_tokens = min(sequence.n_remaining, budget)
            if not self._free_blocks_for(sequence, index, n_tokens):
                break  # it gave way itself; nobody stands behind it
            scheduled.append(self._place(sequence, n_tokens, slices))
            budget -= n_tokens
            index += 1
        while budget and self.counters.preemptions == preempted and self._admit_next(now_ns):
            sequence = self._running[-1]
            n_tokens = min(sequence.n_remaining, budget)
            scheduled.append(self._place(sequence, n_tokens, slices))
            budget -= n_tokens
        if not scheduled:
            return None
        self._open = ScheduledStep(tuple(scheduled), StepPlan(tuple(slices)))
        return self._open

    def commit(self, result: StepResult, now_ns: int) -> list[TokenOutput]:
        """The open step was computed: sequences grow by what it sampled; unsound ones end."""
        done = self._close()
        n_sampled = sum(
            part.samples and at not in result.unsound_slices
            for at, part in enumerate(done.sequences)
        )
        if len(result.token_ids) != n_sampled:
            raise BrokenInvariant(f"{len(result.token_ids)} ids where {n_sampled} are sampled")
        ids, logprobs = iter(result.token_ids), iter(result.logprobs)
        outputs, unsound = [], []
        for at, part in enumerate(done.sequences):
            part.sequence.n_computed += part.n_tokens
            self._cache.touch(part.sequence.held, now_ns)
            self._cache.settle(part.sequence.held)
            if at in result.unsound_slices:
                unsound.append(part.sequence)
            elif part.samples:
                told = next(logprobs, None)
                outputs.append(self._extend(part.sequence, int(next(ids)), told, now_ns))
        if unsound:
            outputs += self._end_unsound(unsound, result.unsound_blocks)
        for part in done.sequences:
            if part.sequence.lease is not None:  # it goes on
                self._cache.slide(part.sequence.lease, part.sequence.n_computed)
        return outputs

    def fail(self) -> list[TokenOutput]:
        """The open step was not computed: its requests end in error, its blocks hold nothing."""
        lost = self._close()
        for part in reversed(lost.sequences):
            self._cache.retract(part.sequence.held)
            self._drop(part.sequence)
        self.counters.failed += len(lost.sequences)
        error = FinishReason.ERROR
        return [part.sequence.output((), error, STEP_FAILED) for part in lost.sequences]

    def check(self) -> None:
        """Raises on a broken invariant. Between steps only."""
        self._cache.check()
        if len(self._sequences) != len(self._waiting) + len(self._running):
            raise BrokenInvariant("a request is neither waiting nor running, or both")
        if any(sequence.lease is not None for sequence in self._waiting):
            raise BrokenInvariant("a waiting request holds blocks")
        for sequence in self._running:
            if not 0 <= sequence.n_computed < sequence.n_tokens:
                raise BrokenInvariant("a running request has nothing left to compute")
            if sequence.held.n_blocks < self._cache.blocks_for(sequence.n_computed):
                raise BrokenInvariant("computed tokens have no blocks")
            if sequence.held.n_gone != self._cache.n_gone_after(sequence.n_computed):
                raise BrokenInvariant("a request holds blocks that left its window, or lacks some")

    def _end_unsound(self, unsound: list[Sequence], blocks: frozenset[int]) -> list[TokenOutput]:
        """These end in error, and no cached block of theirs that holds no numbers stays.

        Whoever shares such a block only gives way: computed without it, its answer goes on.
        """
        for sequence in [s for s in reversed(self._running) if not blocks.isdisjoint(s.held.table)]:
            self._cache.distrust(sequence.held, blocks, sequence.tokens)
            if sequence not in unsound:
                self._preempt(sequence)
        for sequence in unsound:
            self._drop(sequence)
        self.counters.failed += len(unsound)
        return [sequence.output((), FinishReason.ERROR, UNSOUND) for sequence in unsound]

    def _refuse_impossible(self, request: EngineRequest) -> None:
        key = (request.request_id, request.attempt)
        if key in self._sequences:
            raise InvalidRequest("request_id", f"{key[0]} attempt {key[1]} is running already")
        if request.scope.lora and request.scope.lora not in self._limits.adapters:
            raise InvalidRequest("lora", "names an adapter that this worker does not serve")
        if len(self._waiting) >= self._limits.max_waiting:
            raise NoRoom("request", "the worker's queue is full; try another worker")
        n_prompt, max_tokens = len(request.prompt), request.sampling.max_tokens
        if n_prompt == 0:
            raise InvalidRequest("prompt", "is empty; send at least one token")
        if n_prompt + max_tokens > self._limits.max_model_len:
            limit = self._limits.max_model_len
            raise InvalidRequest(
                "max_tokens", f"prompt {n_prompt} + max_tokens {max_tokens} exceed {limit} tokens"
            )
        # The last token sampled is never computed, so it needs no slot.
        if self._blocks_at_once(n_prompt + max_tokens - 1) > self._cache.n_blocks:
            raise InvalidRequest(
                "max_tokens",
                f"{n_prompt + max_tokens} tokens do not fit the KV pool of {self._cache.n_blocks} "
                f"blocks of {self._cache.block_size}; lower max_tokens or raise kv_memory",
            )

    def _blocks_at_once(self, n_tokens: int) -> int:
        """That a sequence of so many tokens needs for any one of its steps."""
        cache, n_step = self._cache, self._limits.max_num_batched_tokens
        return most_blocks_at_once(n_tokens, cache.block_size, cache.window, n_step)

    def _already_done(self, sequence: Sequence) -> FinishReason | None:
        """A resume may carry the very tokens that end it."""
        emitted = sequence.request.emitted
        if not len(emitted):
            return None
        return finish_after(sequence, int(emitted[-1]), self._limits.eos_token_ids)

    def _free_blocks_for(self, sequence: Sequence, index: int, n_tokens: int) -> bool:
        """Preempt from behind until the next tokens fit; False when `sequence` had to go itself."""
        while not self._cache.can_grow(sequence.held, sequence.n_computed + n_tokens):
            victim = self._victim(index)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _victim(self, index: int) -> Sequence:
        behind = self._running[index + 1 :]
        if not behind:
            if index == 0:
                raise BrokenInvariant("the oldest request does not fit an otherwise empty pool")
            return self._running[index]
        if self._limits.preemption_order == "least_computed":
            return min(reversed(behind), key=lambda sequence: sequence.n_computed)
        return behind[-1]

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._cache.release(sequence.preempt())
        self._waiting.appendleft(sequence)
        self.counters.preemptions += 1

    def _admit_next(self, now_ns: int) -> bool:
        """Move the head of the queue to the running ones if all its known tokens fit."""
        if not self._waiting or len(self._running) >= self._limits.max_num_seqs:
            return False
        sequence = self._waiting[0]
        lease = self._cache.acquire(sequence.tokens, sequence.request.scope)
        n_blocks = self._blocks_at_once(sequence.n_tokens) - len(lease.table)
        n_spare = self._limits.watermark_blocks if self._running else 0
        if n_blocks + n_spare > self._cache.n_available:
            self._cache.release(lease)
            return False
        self._waiting.popleft()
        self._running.append(sequence)
        n_cached = lease.n_blocks * self._cache.block_size
        sequence.admit(lease, n_cached, now_ns, self._cache.position)
        return True

    def _place(
        self, sequence: Sequence, n_tokens: int, slices: list[SequenceSlice]
    ) -> ScheduledSequence:
        """Give the next tokens their blocks and add their slice of the plan."""
        start, end = sequence.n_computed, sequence.n_computed + n_tokens
        samples = end == sequence.n_tokens
        lease = sequence.held
        self._cache.grow(lease, end)
        self._cache.publish(lease, sequence.tokens, end)
        n_blocks = self._cache.blocks_for(end) - lease.n_gone
        table = np.array(lease.table[:n_blocks], dtype=np.int32)
        part, adapter = sequence.tokens[start:end], sequence.request.scope.lora
        if samples:
            sampling, history = sequence.request.sampling, sequence.history
            forbidden = forbidden_ends(sequence, self._limits.eos_token_ids)
            one = SequenceSlice(
                part, start, table, sampling, forbidden, adapter, history, lease.n_gone
            )
        else:
            one = SequenceSlice(part, start, table, None, adapter=adapter, first_block=lease.n_gone)
        slices.append(one)
        is_decode = samples and n_tokens == 1 and sequence.has_output
        return ScheduledSequence(sequence, n_tokens, samples, is_decode)

    def _extend(
        self, sequence: Sequence, token_id: int, told: TokenLogprob | None, now_ns: int
    ) -> TokenOutput:
        """One more token; ends the request where it should."""
        sequence.append(token_id)
        finish = finish_after(sequence, token_id, self._limits.eos_token_ids)
        output = sequence.output((token_id,), finish)
        if told is not None:
            output = msgspec.structs.replace(output, logprobs=pack_logprobs([told]))
        if not sequence.has_output:
            sequence.has_output = True
            output = msgspec.structs.replace(output, prompt=sequence.report(now_ns))
        if finish is not None:
            self.counters.finished += 1
            self._drop(sequence, sequence.request.last_of_session)
        return output

    def _drop(self, sequence: Sequence, session_uses: int | None = None) -> None:
        """`session_uses`: of one that ended as it should, so its client may be done."""
        del self._sequences[sequence.key]
        if sequence.lease is None:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._cache.release(sequence.lease, session_uses)
        sequence.lease = None

    def _close(self) -> ScheduledStep:
        if self._open is None:
            raise BrokenInvariant("no step is open")
        closed, self._open = self._open, None
        return closed
