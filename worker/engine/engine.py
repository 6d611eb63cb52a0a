"""Engine: the seam that every engine stands behind, and the only records that cross it.

Requests go in, the outputs of steps come out; an engine may therefore live in a process of its own.
No torch, no socket, no clock. `InferenceEngine` implements it; the engine process drives it.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from radixroute.events.wire.records import Event
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.errors import InvalidRequest, NoRoom
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import Passage, Verbatim

# Of an attempt that was asked after and is not there.
NOT_HERE: Final = "request_id: no such attempt runs here"


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One attempt at a request. `emitted` is output of earlier attempts: it counts as output."""

    request_id: str
    attempt: int
    session_id: str  # the worker session whose outputs these are
    prompt: Tokens
    sampling: SamplingParams  # complete
    emitted: Tokens  # shape (k,), k = 0 unless resumed
    dispatch_seq: int = 0
    scope: RequestScope = UNSCOPED  # it shares blocks within this alone
    # Set: what it is, instead of prompt and sampling; of engines that take such.
    verbatim: Verbatim | None = None
    allowance: int = 0  # bytes of its answer that may be put out; `EngineHost.allow` gives more
    traceparent: str = ""  # W3C trace context of its client's call; empty: none
    # It is the last of its client's session, which had so many requests; None: nobody said so.
    last_of_session: int | None = None

    @property
    def n_tokens(self) -> int:
        """That the engine must know before it makes a new one; of a verbatim one, a guess."""
        if self.verbatim is not None:
            return self.verbatim.n_tokens
        return len(self.prompt) + len(self.emitted)


@dataclass(frozen=True, slots=True)
class PromptReport:
    """How the prompt was served; sent with the first token of an attempt. Counts are tokens."""

    prompt_tokens: int
    cached_tokens: int
    recomputed_tokens: int
    queue_ms: float
    prefill_ms: float
    # When `cached_tokens` was looked up: the event batches before that one, which is the seq of the
    # batch that was being made, and the events of that batch by then. None: the engine cannot say.
    event_seq: int | None = None
    events_before: int = 0
    rank: int | None = None  # whose cache that was; None: the engine has one, or cannot say


class TokenOutput(msgspec.Struct, frozen=True):
    """New tokens of one request: ids only, the server detokenises. A struct: there is one a token,
    and a frozen dataclass takes five times as long to make."""

    request_id: str
    attempt: int
    session_id: str
    position: int  # output tokens before these, resumed ones included
    token_ids: tuple[int, ...]
    finish: FinishReason | None = None
    error: str = ""
    prompt: PromptReport | None = None
    logprobs: Logprobs | None = None  # of `token_ids`; None: not asked for
    passage: Passage | None = None  # of a verbatim request, instead of ids

    @property
    def is_plain(self) -> bool:
        """Tokens, and nothing else is told."""
        return (
            self.finish is None
            and self.prompt is None
            and self.logprobs is None
            and self.passage is None
            and not self.error
        )


class MoreOutput(msgspec.Struct, frozen=True):
    """More bytes of a verbatim answer that has begun; its end is a `TokenOutput`."""

    request_id: str
    attempt: int
    session_id: str
    data: bytes
    n_tokens: int  # output tokens in it, as far as they can be told


class WorkerSessionProgress(msgspec.Struct, frozen=True):
    """Load of one worker session as the scheduler sees it; see `SessionLoad` of `events`."""

    session_id: str
    acknowledged_dispatch: int
    in_flight: int
    queued_tokens: int
    active_blocks: int


class EngineStep(msgspec.Struct, frozen=True):
    """Everything one step did: outputs to deliver, cache events to publish, load to report."""

    step: int
    outputs: tuple[TokenOutput, ...]
    events: tuple[Event, ...]
    step_ms: float
    prefill_tokens: int
    decode_tokens: int
    kv_blocks_used: int
    sessions: tuple[WorkerSessionProgress, ...]
    rank: int = 0  # whose events these are
    more: tuple[MoreOutput, ...] = ()  # behind `outputs`: who has some there has begun, not ended


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about an engine that do not change while it lives. Sizes in tokens or blocks."""

    model: str
    block_size: int
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    model_fingerprint: str
    dtype: str
    device: str
    kv_blocks_total: int
    max_num_seqs: int
    max_num_batched_tokens: int
    adapters: tuple[str, ...] = ()  # that it serves beside the model as it is
    kv_dtype: str = ""  # of the KV cache; empty: `dtype`
    max_waiting: int | None = None  # requests that its own queue takes; None: as the settings say
    kind: str = "torch"  # or "vllm", "sglang", "openai"
    # Of engines that are not ours. Output of earlier attempts counts as prompt there, so penalties
    # on output cannot go on; or its ids are not those it drew: it takes no output of others at all,
    # nor they of it.
    resent_is_prompt: bool = False
    cannot_resume: bool = False
    takes_verbatim: bool = False
    is_cache_believed: bool = False  # its events are what a companion believes, not what it told
    ranks: int = 1  # data-parallel: each has a cache of its own


class Engine(Protocol):
    """One inference engine, driven by one thread. Not thread-safe: its loop owns it.

    `submit` raises `InvalidRequest` for a request that could never run and leaves no trace of it.
    `abort` of an unknown or finished request does nothing: it may have crossed its own end.
    `inquire` of one that is not there ends it once more, behind all outputs that it had.
    `end_session` aborts all requests of a worker session whose stream is gone, and forgets it.
    `step` plans one step and computes it; with nothing to do it returns None.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def has_work(self) -> bool: ...

    def submit(self, request: EngineRequest, now_ns: int) -> None: ...

    def abort(self, request_id: str, attempt: int) -> None: ...

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None: ...

    def end_session(self, session_id: str) -> None: ...

    def step(self, now_ns: int) -> EngineStep | None: ...


def refused_as(error: InvalidRequest) -> FinishReason:
    """Whether a request that was refused may go to another worker, or nowhere."""
    return FinishReason.FULL if isinstance(error, NoRoom) else FinishReason.INVALID
