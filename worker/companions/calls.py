"""Calls: the requests that run in an engine which is not ours, and what came back of each.

Owns the table of calls under way and the load of each worker session. Turns what a reader heard
into the outputs that an engine of ours would give: positions, ends, and a report of the prompt.
Sends nothing itself; no clock: times come in. Called by `Companion`, on one event loop.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from radixroute.radix.errors import BrokenInvariant
from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.cache.believed import Belief
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.engine.engine import (
    EngineRequest,
    PromptReport,
    TokenOutput,
    WorkerSessionProgress,
)

LONG_ANSWER: Final = 8  # tokens: a step with accepted drafts may make a few at once
LUMP_NS: Final = 200_000  # a token


class Cancellable(Protocol):
    """What is under way at the engine for one call."""

    def cancel(self) -> None: ...


class Relayed(Protocol):
    """Where a verbatim call's answer goes by."""

    @property
    def is_paused(self) -> bool:
        """It waits for its client: the engine may have no more to do."""

    def allow(self, n_bytes: int) -> None: ...


@dataclass(slots=True)
class _Load:
    acknowledged: int = 0
    in_flight: int = 0
    queued_tokens: int = 0
    active_blocks: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """One request under way. Times are of the caller's clock, in ns."""

    request: EngineRequest
    submitted_ns: int
    uncached_tokens: int  # that the engine has to compute before the first token, as far as known
    rank: int = 0  # that runs it
    n_blocks: int = 0  # that it pins, as far as known
    n_output: int = 0  # output tokens so far, resumed ones included
    n_room: int = 0  # output tokens that those blocks have room for
    is_over: bool = False  # nobody waits for it any more
    load: _Load = field(default_factory=_Load)  # of its session
    first_ns: int | None = None  # its first token
    exchange: Cancellable | None = None
    relaying: Relayed | None = None  # of a verbatim one
    belief: Belief | None = None  # None: the engine tells of its cache

    @property
    def key(self) -> tuple[str, int]:
        return self.request.request_id, self.request.attempt


class Calls:
    """Requests from submit to their end."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._calls: dict[tuple[str, int], Call] = {}
        self._loads: dict[str, _Load] = {}
        self.long_answers = self.lumps = 0  # that ended; of these, those that came all at once

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._calls

    @property
    def busy_ranks(self) -> set[int]:
        """Those that have something to do, as far as known. O(calls)."""
        return {one.rank for one in self if one.relaying is None or not one.relaying.is_paused}

    def find(self, request_id: str, attempt: int) -> Call | None:
        return self._calls.get((request_id, attempt))

    def acknowledge(self, request: EngineRequest) -> None:
        """It was seen, whatever becomes of it."""
        load = self._loads.setdefault(request.session_id, _Load())
        load.acknowledged = max(load.acknowledged, request.dispatch_seq)

    def begin(
        self, request: EngineRequest, *, uncached_tokens: int, now_ns: int, rank: int = 0
    ) -> Call:
        """From here on it counts as load."""
        n_emitted = len(request.emitted)
        n_blocks = self._blocks_of(request.n_tokens)
        load = self._loads.setdefault(request.session_id, _Load())
        call = Call(request, now_ns, uncached_tokens, rank, n_blocks, n_emitted, load=load)
        call.n_room = n_blocks * self._block_size - request.n_tokens + n_emitted
        if call.key in self._calls:
            raise BrokenInvariant("a call begins twice")
        self._calls[call.key] = call
        load.in_flight += 1
        load.queued_tokens += call.uncached_tokens
        load.active_blocks += call.n_blocks
        return call

    def hear(self, call: Call, heard: Heard, now_ns: int) -> TokenOutput | None:
        """What the engine said as an output; None: nobody waits for it any more."""
        if call.is_over:
            return None
        request, passage = call.request, heard.passage
        position = 0 if passage is not None else call.n_output
        n_tokens = len(heard.token_ids) if passage is None else passage.n_tokens
        if n_tokens or passage is not None:
            self._grow(call, n_tokens, now_ns)
        if heard.finish is not None:
            self._drop(call)
            if passage is None:
                self._pace(call, now_ns)
        # By position: there is one a token.
        return TokenOutput(
            request.request_id,
            request.attempt,
            request.session_id,
            position,
            heard.token_ids,
            heard.finish,
            heard.error,
            None if heard.cached_tokens is None else _report(call, heard),
            heard.logprobs,
            passage,
        )

    def computed(self, call: Call) -> None:
        """Its prompt is thought to be computed, though nothing has come of it."""
        if call.first_ns is None:
            self._loads[call.request.session_id].queued_tokens -= call.uncached_tokens
            call.uncached_tokens = 0

    def passed(self, call: Call, n_tokens: int) -> None:
        """More of a verbatim answer that has begun went by."""
        call.n_output += n_tokens
        n_blocks = self._blocks_of(call.request.n_tokens + call.n_output)
        self._loads[call.request.session_id].active_blocks += n_blocks - call.n_blocks
        call.n_blocks = n_blocks

    def cancel(self, call: Call) -> TokenOutput:
        """It ends here; the engine learns it at once."""
        self._drop(call)
        if call.exchange is not None:
            call.exchange.cancel()
        return ended(call.request, FinishReason.ABORT, position=call.n_output)

    def forget_session(self, session_id: str) -> None:
        """All its calls are cancelled and nobody hears of them."""
        for call in [one for one in self if one.request.session_id == session_id]:
            self.cancel(call)
        self._loads.pop(session_id, None)

    def progress(self) -> tuple[WorkerSessionProgress, ...]:
        """Load of every worker session that is not forgotten, idle ones too."""
        return tuple(
            WorkerSessionProgress(
                session_id=session_id,
                acknowledged_dispatch=load.acknowledged,
                in_flight=load.in_flight,
                queued_tokens=load.queued_tokens,
                active_blocks=load.active_blocks,
            )
            for session_id, load in self._loads.items()
        )

    def check(self) -> None:
        """Raises on a broken invariant."""
        for session_id, load in self._loads.items():
            own = [call for call in self if call.request.session_id == session_id]
            queued = sum(call.uncached_tokens for call in own if call.first_ns is None)
            blocks = sum(call.n_blocks for call in own)
            if (len(own), queued, blocks) != (
                load.in_flight,
                load.queued_tokens,
                load.active_blocks,
            ):
                raise BrokenInvariant("the load of a session is not that of its calls")

    def _grow(self, call: Call, n_tokens: int, now_ns: int) -> None:
        if call.first_ns is None:
            call.first_ns = now_ns
            call.load.queued_tokens -= call.uncached_tokens
        call.n_output += n_tokens
        if call.n_output > call.n_room:
            n_more = self._blocks_of(call.n_output - call.n_room)
            call.load.active_blocks += n_more
            call.n_blocks += n_more
            call.n_room += n_more * self._block_size

    def _pace(self, call: Call, now_ns: int) -> None:
        """Whether its tokens came as they were made: no engine makes them that fast."""
        n_tokens = call.n_output - len(call.request.emitted)
        if n_tokens >= LONG_ANSWER and call.first_ns is not None:
            self.long_answers += 1
            self.lumps += now_ns - call.first_ns < n_tokens * LUMP_NS

    def _drop(self, call: Call) -> None:
        del self._calls[call.key]
        call.is_over = True
        load = call.load
        load.in_flight -= 1
        load.active_blocks -= call.n_blocks
        if call.first_ns is None:
            load.queued_tokens -= call.uncached_tokens

    def _blocks_of(self, n_tokens: int) -> int:
        return -(-n_tokens // self._block_size)


def ended(
    request: EngineRequest, finish: FinishReason, error: str = "", *, position: int | None = None
) -> TokenOutput:
    """The end of a request, without tokens."""
    return TokenOutput(
        request_id=request.request_id,
        attempt=request.attempt,
        session_id=request.session_id,
        position=len(request.emitted) if position is None else position,
        token_ids=(),
        finish=finish,
        error=error,
    )


def _report(call: Call, heard: Heard) -> PromptReport | None:
    """Of what was sent as prompt, emitted tokens count as resumed. It waited unseen: no queue time.

    Without a place in the event stream: nobody knows when the engine looked its cache up.
    """
    cached_tokens = heard.cached_tokens
    if cached_tokens is None or call.first_ns is None:
        return None
    n_prompt, n_emitted = len(call.request.prompt), len(call.request.emitted)
    if call.request.verbatim is not None:
        n_prompt = heard.prompt_tokens or 0
    return PromptReport(
        prompt_tokens=n_prompt,
        cached_tokens=min(cached_tokens, n_prompt),
        recomputed_tokens=max(0, n_emitted - max(0, cached_tokens - n_prompt)),
        queue_ms=0.0,
        prefill_ms=(call.first_ns - call.submitted_ns) / 1e6,
        rank=call.rank,
    )
