"""Requests in flight: what each has emitted, where it runs, how often its worker died.

Owns every `Request` from acceptance to its one end; `accept` places output so that positions stay
contiguous whatever old attempts still send. No clock, no I/O; `RouterCore` calls.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import More
from radixroute.router.messages.actions import AttemptUsage, Usage
from radixroute.router.messages.inputs import (
    TOKEN_BYTES,
    Delta,
    PackedTokens,
    RequestSpec,
    packed_len,
)
from radixroute.router.workers.claims import NO_MARK, Mark
from radixroute.router.workers.load import BookingId

# Ends without output.
GIVEN_UP = (FinishReason.ABORT, FinishReason.ERROR, FinishReason.FULL, FinishReason.INVALID)
DEATH_MEMORY_NS = 600_000_000_000
# Sessions of a process that ends break together; an engine that a request kills takes it longer to
# be taken up, and to die.
ONE_DEATH_NS: Final = 1_000_000_000
# Attempts count from here after each resume by a client: no router knows how many the last one
# made, and workers end lower ones.
ATTEMPTS_A_RESUME: Final = 1 << 16


class Placement(Enum):
    """Where a delta stands relative to what was emitted."""

    NEXT = "next"
    OLD_ATTEMPT = "old_attempt"  # its attempt was given up
    DUPLICATE = "duplicate"  # these positions were emitted already
    MISPLACED = "misplaced"  # it would leave a hole or tear a token run: the attempt is broken


class Ending(NamedTuple):
    """What a request came to, for whoever compares policies."""

    policy: str
    ttft_ms: float | None  # None: it had no first token here, or began elsewhere
    prompt_tokens: int
    cached_tokens: int


class Request(msgspec.Struct, eq=False):
    """One request until it ends. Only `RequestTable` and the core change it."""

    spec: RequestSpec
    number: int = 0  # in the order in which they were accepted
    emitted: bytearray = msgspec.field(default_factory=bytearray)  # packed
    text_len: int = 0  # characters sent to the client
    attempt: int = 0
    begun: int = 0  # the attempt that had a first token last
    inquired: int = 0  # the attempt that its worker was asked for last
    worker_id: WorkerId | None = None  # None: waiting
    # (worker, epoch) whose session broke under it.
    excluded: set[tuple[WorkerId, str]] = msgspec.field(default_factory=set)
    deaths_ns: list[int] = msgspec.field(
        default_factory=list
    )  # of workers that had it, the last ones
    died_in: dict[str, int] = msgspec.field(default_factory=dict)  # process -> when, in ns
    waiting_since_ns: int = 0
    draw: int | None = None  # random bits for ties
    expected_ms: float = 0.0  # dispatch to first token, if it is alone there; 0: not known
    dispatch_seq: int = 0  # of its last attempt
    sent_ns: int = 0
    mark: Mark = NO_MARK  # of its worker's event streams when it was sent there
    dispatched_ns: int | None = None  # first dispatch
    first_token_ns: int | None = None
    predicted_tokens: int = 0
    is_counted: bool = False  # its prompt was reported once
    cached_tokens: int = 0
    recomputed_tokens: int = 0
    by_attempt: list[AttemptUsage] = msgspec.field(default_factory=list)  # one for each dispatch
    # Of a verbatim one: bytes of its answer have gone to its client, and tokens with them.
    has_passed: bool = False
    passed_tokens: int = 0
    # Of its spec, at hand: they are asked for some twenty times a request.
    request_id: str = ""
    n_prompt: int = 0

    def __post_init__(self) -> None:
        self.request_id, self.n_prompt = self.spec.request_id, self.spec.prompt_tokens

    @property
    def prompt_tokens(self) -> int:
        """To be known to a worker that takes it now: prompt and what was emitted."""
        return self.n_prompt + len(self.emitted) // TOKEN_BYTES

    @property
    def is_resumed(self) -> bool:
        """A worker had it before and lost it, here or at another router."""
        return bool(self.excluded) or self.spec.resumed is not None

    @property
    def begun_with(self) -> SamplingParams | None:
        """Who takes it now goes on with output of another, made by these; None: there is none."""
        return self.spec.sampling if self.emitted else None

    def died_with(self, now_ns: int, process: str = "") -> None:
        """A worker died with it. Deaths long ago say nothing about it. `process`: where it ran; one
        that ends takes all its workers along at once, which is one death however many of them had
        it. Empty: it does not matter."""
        if process:
            began_ns = self.died_in.get(process)
            if began_ns is not None and now_ns - began_ns < ONE_DEATH_NS:
                return
            self.died_in[process] = now_ns
        self.deaths_ns = [at_ns for at_ns in self.deaths_ns if now_ns - at_ns < DEATH_MEMORY_NS]
        self.deaths_ns.append(now_ns)

    @property
    def output_tokens(self) -> int:
        """As far as they can be told of a verbatim answer."""
        return self.position + self.passed_tokens

    @property
    def booking(self) -> BookingId:
        return BookingId(self.spec.request_id, self.attempt)

    @property
    def position(self) -> int:
        """Output tokens emitted."""
        return len(self.emitted) // TOKEN_BYTES

    def continues(self, delta: Delta) -> bool:
        """Whether it, from its worker, is nothing but the next tokens of an answer that has begun:
        `NEXT`, and nothing is to be booked but those. Pure; asked for each token."""
        return (
            delta.position * TOKEN_BYTES == len(self.emitted)
            and delta.attempt == self.attempt == self.begun
            and delta.finish is None
            and delta.prompt is None
            and delta.passage is None
            and bool(delta.token_ids)
            and self.first_token_ns is not None
            and not self.expected_ms
        )

    def place(self, delta: Delta) -> Placement:
        """Pure."""
        if self.worker_id is None or delta.attempt != self.attempt:
            return Placement.OLD_ATTEMPT
        if delta.finish is not None and delta.finish in GIVEN_UP and not delta.token_ids:
            return Placement.NEXT  # it carries no output, so its position says nothing
        n = packed_len(delta.token_ids)
        if delta.position == self.position:
            return Placement.NEXT
        if n and delta.finish is None and delta.position + n <= self.position:
            return Placement.DUPLICATE
        return Placement.MISPLACED

    def passes(self, piece: More) -> bool:
        """Whether it is more of an answer of which its client has the beginning. Pure."""
        return piece.attempt == self.attempt and self.has_passed

    def emit(self, token_ids: PackedTokens, text: str) -> None:
        self.emitted += token_ids
        self.text_len += len(text)

    def implied_finish(self, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """The finish its worker owed when it died, if the last token had already decided it."""
        sampling = self.spec.sampling
        if self.emitted and self.position >= sampling.min_tokens:
            last = int.from_bytes(self.emitted[-TOKEN_BYTES:], "little")
            is_end = last in eos_token_ids and not sampling.ignore_eos
            if is_end or last in sampling.stop_token_ids:
                return FinishReason.STOP  # before length, as the worker has it
        return FinishReason.LENGTH if self.position >= sampling.max_tokens else None

    def usage(self) -> Usage:
        arrival_ns = self.spec.arrival_ns
        first_ns = arrival_ns if self.first_token_ns is None else self.first_token_ns
        dispatched_ns = arrival_ns if self.dispatched_ns is None else self.dispatched_ns
        return Usage(
            prompt_tokens=self.spec.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            recomputed_tokens=self.recomputed_tokens,
            attempts=len(self.by_attempt),
            worker_id=self.worker_id or WorkerId(""),
            ttft_ms=(first_ns - arrival_ns) / 1e6,
            queue_ms=(dispatched_ns - arrival_ns) / 1e6,
            by_attempt=tuple(self.by_attempt),
            predicted_tokens=self.predicted_tokens,
        )

    def ending(self) -> Ending:
        spec, first_ns = self.spec, self.first_token_ns
        is_whole = first_ns is not None and spec.resumed is None and self.is_counted
        ttft_ms = (first_ns - spec.arrival_ns) / 1e6 if first_ns is not None and is_whole else None
        return Ending(spec.policy, ttft_ms, spec.prompt_tokens, self.cached_tokens)

    def reported(self, cached_tokens: int) -> None:
        """By the attempt that runs now, of its prompt."""
        if self.by_attempt:
            self.by_attempt[-1] = AttemptUsage(self.by_attempt[-1].worker_id, cached_tokens)


class RequestTable:
    """Requests that have not ended, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Request] = {}
        self._n_opened = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._by_id.values())

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_id

    def get(self, request_id: str) -> Request | None:
        return self._by_id.get(request_id)

    def open(self, spec: RequestSpec) -> Request:
        if spec.request_id in self._by_id:
            raise BrokenInvariant("a request id was given twice")
        self._n_opened += 1
        request = Request(spec, self._n_opened, waiting_since_ns=spec.arrival_ns)
        if spec.resumed is not None:
            request.emitted += spec.resumed.emitted
            request.text_len = spec.resumed.text_len
            request.attempt = ATTEMPTS_A_RESUME * spec.resumed.number
            request.is_counted = True  # where it began
        self._by_id[spec.request_id] = request
        return request

    def close(self, request: Request) -> None:
        """Its one end."""
        if self._by_id.pop(request.request_id, None) is None:
            raise BrokenInvariant("a request ended twice")
