"""Dialect: the seam between a companion and one kind of engine, and the records that cross it.

Bytes and values in and out, nothing else: what a dialect does can be shown with recorded exchanges.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import msgspec

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import Passage, Verbatim
from radixroute.worker.engine.engine import EngineRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request to the engine."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. Status 0: there was none."""

    status: int
    body: bytes = b""

    @property
    def is_ok(self) -> bool:
        return self.status == 200


Answers: TypeAlias = Mapping[str, Answer]  # by path


class Heard(msgspec.Struct, frozen=True):
    """What an engine said of one request: new tokens, or its end, or both. A struct: there is one a
    token, and a frozen dataclass takes five times as long to make."""

    token_ids: tuple[int, ...] = ()
    finish: FinishReason | None = None
    error: str = ""  # a fixed sentence of ours
    cached_tokens: int | None = None  # with the end, where the engine says so only then
    logprobs: Logprobs | None = None  # of `token_ids`
    passage: Passage | None = None  # of a verbatim request, instead of ids
    prompt_tokens: int | None = None  # with the end of such a one, where the engine says so
    is_engine_fault: bool = False  # the engine may be ending: worth a look
    text: str = ""  # of new tokens whose ids it does not tell
    status: int = 0  # of HTTP, where an error has one; 0: it has none


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where the cache events of one rank are sent; endpoints as one connects to them."""

    rank: int
    events: str
    replay: str = ""
    topic: str = ""
    connects_to: str = (
        ""  # its endpoint, where the engine connects there and nobody can; else empty
    )
    # As its engine is set; 0: it does not say.
    buffer_steps: int = 0  # batches that it keeps to be asked for again
    hwm: int = 0  # messages that a slow listener may lag before it loses some
    queue_len: int = 0  # batches between engine and socket


@dataclass(frozen=True, slots=True)
class Statement:
    """What an engine says it is. 0 or empty: it does not say."""

    kind: str
    model: str
    version: str = ""
    root: str = ""  # folder of the model, on its own machine
    adapters: tuple[str, ...] = ()
    max_model_len: int = 0
    block_size: int = 0
    kv_blocks: int = 0  # that can hold something, of all ranks
    kv_dtype: str = ""
    places: tuple[EventPlace, ...] = field(default=())
    has_prefix_cache: bool = True
    could_tell_events: bool = True  # of its cache, were it started so
    keeps_salts_apart: bool | None = True  # None: to be tried out
    tells_places: bool = True  # False: it is too old to say where its events are
    are_adapters_told: bool = True  # its events tell blocks of an adapter from the model's own
    ranks: int = 1  # data-parallel, behind this URL
    reasoning_parser: str = ""  # that takes chats apart; empty: none, or it does not say


@dataclass(frozen=True, slots=True)
class RankNumbers:
    """How one data-parallel rank does."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0  # share of its blocks that running requests pin
    steps: int | None = None  # it has made; None: it does not say


@dataclass(frozen=True, slots=True)
class EngineNumbers:
    """How an engine does at one moment: its ranks, by their order, or nothing."""

    ranks: tuple[RankNumbers, ...] = ()
    started_s: float | None = None  # when its process began, Unix time

    @property
    def running(self) -> int:
        return sum(rank.running for rank in self.ranks)

    @property
    def waiting(self) -> int:
        return sum(rank.waiting for rank in self.ranks)

    @property
    def kv_usage(self) -> float:
        """Of all blocks."""
        return sum(rank.kv_usage for rank in self.ranks) / max(1, len(self.ranks))

    @property
    def steps(self) -> int | None:
        """Of all ranks; None: they do not say."""
        told = [rank.steps for rank in self.ranks if rank.steps is not None]
        return sum(told) if told else None


class AnswerReader(Protocol):
    """Reads the stream of one answer. After an end nothing more is heard."""

    def feed(self, data: bytes) -> Sequence[Heard]: ...

    def end(self) -> Sequence[Heard]:
        """The connection ended; an answer without an end was given up."""


class PassageReader(Protocol):
    """Reads along what an answer says of itself while it goes by."""

    prompt_tokens: int | None  # None: not told, or not yet
    cached_tokens: int | None
    has_event: bool  # of a stream: one is whole
    failed: bool  # it carries an error that is not the request's own fault

    def feed(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def take_tokens(self) -> int:
        """Output tokens since the last call, as far as they can be told."""


class Dialect(Protocol):
    """One kind of engine. One serves any number of calls and keeps nothing of any."""

    @property
    def kind(self) -> str: ...

    def questions(self) -> tuple[Ask, ...]:
        """What it is to be asked; each of them may be refused."""

    def statement(self, answers: Answers, host: str) -> Statement:
        """Raises `JoinRefused` where it is no such engine, or shut to us. `host`: where it is."""

    def call(
        self,
        request: EngineRequest,
        call_id: str,
        model: str,
        *,
        tells_again: bool = False,
        rank: int | None = None,
    ) -> Ask:
        """A request as the engine takes it; `model`: its name for what is to run. `tells_again`:
        of the blocks that it finds, too. `rank`: that is to run it; None: there is one."""

    def verbatim(
        self, request: EngineRequest, call_id: str, model: str, rank: int | None = None
    ) -> Ask:
        """A verbatim request, with what of it is ours to set."""

    def renders(self, asked: Verbatim, model: str) -> tuple[Ask, ...]:
        """What tells the tokens of its prompt; the best first, each may be refused."""

    def rendered(self, answer: Answer) -> list[int] | None:
        """What one of these was answered with; None: it does not tell."""

    def passages(self, *, is_stream: bool) -> PassageReader:
        """For the answer to such a one."""

    def salt(self, scope: RequestScope) -> str:
        """What keeps its blocks apart in the engine, as events name it; empty: nothing does."""

    def refuses(self, request: EngineRequest) -> str:
        """Why it cannot be said in this dialect, a fixed sentence; empty: it can."""

    def reader(
        self, n_logprobs: int | None = None, ends: Collection[int] = frozenset()
    ) -> AnswerReader:
        """`n_logprobs`: as its request asked for. `ends`: tokens that end an answer and are none
        of its text."""

    def abort(self, call_id: str) -> Ask | None:
        """To be sent once the connection is closed; None: that alone frees the request."""

    def refusal(self, status: int, body: bytes) -> Heard:
        """What an answer that is no stream means."""

    def count(self, text: str, model: str) -> Ask | None:
        """What tells how many tokens a text has, for servers that cannot be asked which; None: of
        this kind all can."""

    def count_of(self, answer: Answer) -> int | None:
        """What that was answered with; None: it does not say."""

    def health(self) -> Ask:
        """Cheap: whether it lives."""

    def proof(self, model: str) -> Ask | None:
        """What only an engine that computes answers; None: it counts its steps, as good a sign."""

    def metrics(self) -> Ask: ...

    def numbers(self, metrics: bytes) -> EngineNumbers: ...
