"""What goes into `RouterCore`: requests to route, workers' answers, facts about workers.

Frozen records only. Token ids stay packed (little-endian u32 bytes, as on the wire): the router
forwards tokens, it never computes with them, and a Python int per token would cost more than the
rest of the proxy. What is made for each request is a msgspec struct: a frozen dataclass of fifteen
fields takes 4 us to make, such a struct 0.2.
"""

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

import msgspec

from radixroute.events.wire.control import Endpoints
from radixroute.radix.ids import Keys, Tokens, WorkerId
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import More, Passage, Verbatim

NS_PER_S = 1_000_000_000
PackedTokens = NewType("PackedTokens", bytes)
TOKEN_BYTES = 4
N_BANDS = 10  # of priority: 0 goes first
DEFAULT_PRIORITY = 5
DEFAULT_TENANT = ""
# Begins the need of a verbatim request; no adapter's name does.
VERBATIM_NEED = "\0"


def packed_len(tokens: bytes | bytearray) -> int:
    """How many tokens are packed in it."""
    return len(tokens) // TOKEN_BYTES


def session_of(session_key: str) -> int | None:
    """64 bits of what a client calls its session; None for an empty name."""
    if not session_key:
        return None
    return int.from_bytes(hashlib.blake2b(session_key.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a client has of a stream that another router, or a broken connection, began."""

    emitted: PackedTokens
    text_len: int  # characters
    number: int  # from 1: of the stream's resumes; what runs under a lower one is over


class RequestSpec(msgspec.Struct, frozen=True, eq=False):
    """One request as it was asked; validated, tokenised and hashed. Equal only to itself."""

    request_id: str
    prompt: Tokens
    keys: Keys  # of the prompt's full blocks
    sampling: SamplingParams
    policy: str
    arrival_ns: int
    deadline_ns: int
    session: int | None = None  # 64 bits; None: its client named none
    # How many requests that session had, this last one included; None: nobody says it is over.
    last_of_session: int | None = None
    tenant: str = DEFAULT_TENANT  # as a door says, never as a prompt does
    priority: int = DEFAULT_PRIORITY  # band, 0 to 9
    resumed: Resumed | None = None  # None: it begins here
    scope: RequestScope = UNSCOPED  # what its keys are salted with beside the fleet's scope
    traceparent: str = ""  # W3C trace context of its client's call; empty: none
    lease_id: str = ""  # its client streams from the worker itself and wants a lease; empty: no
    # What goes to the engine instead of prompt and sampling, which then are what is known of it.
    verbatim: Verbatim | None = None

    @property
    def prompt_tokens(self) -> int:
        """Of a verbatim prompt that nobody here has read: a guess."""
        return len(self.prompt) if self.verbatim is None else self.verbatim.n_tokens

    @property
    def need(self) -> str:
        """What not every worker serves: an adapter, verbatim requests, or both. Empty: all do."""
        lora = self.scope.lora
        return lora if self.verbatim is None else VERBATIM_NEED + lora

    @property
    def is_read(self) -> bool:
        """Its prompt's tokens are known, so its keys are, too."""
        return self.verbatim is None or len(self.prompt) > 0


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """One worker as the controller lists it."""

    worker_id: WorkerId
    address: str  # host:port of its Engine service
    incarnation: int  # the controller's count of its lives; a new one is a new worker process
    # As the controller counts them; another number is no other worker.
    deaths: int = field(default=0, compare=False)


class Absence(Enum):
    """Why a worker that the controller keeps does not serve now."""

    STARTING = "starting"  # its first life is coming up
    RESTARTING = "restarting"  # it died or could not start; the next life is coming up


@dataclass(frozen=True, slots=True)
class AbsentWorker:
    """One that the controller keeps and cannot list now."""

    worker_id: WorkerId
    why: Absence
    deaths: int = 0  # as the controller counts them, starts that failed among them
    reason: str = ""  # of the last one


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What the core needs to know of a worker that was accepted."""

    worker_id: WorkerId
    epoch: str  # hexadecimal
    block_size: int  # tokens
    eos_token_ids: frozenset[int]
    kv_blocks_total: int
    max_batched_tokens: int
    max_num_seqs: int = 0  # requests that run at once; 0: not known
    max_waiting: int = 0  # requests that its own queue takes beside them; 0: not known
    ranks: int = 1  # event streams
    process: str = ""  # that its server runs in, by a name of its life; empty: it does not say
    compat: Endpoints | None = None  # events in vLLM's form, for other routers
    metrics_address: str = ""  # of its page; empty: none
    adapters: frozenset[str] = frozenset()  # that it serves beside the model as it is
    resent_is_prompt: bool = False  # to it, output of others counts as prompt
    cannot_resume: bool = False  # it takes no output of others, nor they of it
    takes_verbatim: bool = False  # it answers requests as clients wrote them
    is_cache_believed: bool = False  # nobody told of its cache: its events are a belief


class PromptFacts(msgspec.Struct, frozen=True):
    """How an attempt's prompt was served, as its engine reports. Counts are tokens."""

    prompt_tokens: int
    cached_tokens: int
    recomputed_tokens: int
    # When `cached_tokens` was looked up there, in its event stream: the batches before, and the
    # events of the batch being made by then. None: it cannot say.
    event_seq: int | None = None
    events_before: int = 0
    rank: int | None = None  # whose cache that was, of a worker with several; None: it cannot say


class Delta(msgspec.Struct, frozen=True, gc=False):
    """New output of one attempt: there is one a token."""

    request_id: str
    attempt: int
    position: int  # output tokens before these
    token_ids: PackedTokens
    text: str
    finish: FinishReason | None = None
    prompt: PromptFacts | None = None
    logprobs: Logprobs | None = None  # of `token_ids`; None: not asked for
    passage: Passage | None = None  # of a verbatim request, instead of ids and text
    error: str = ""  # with a finish that has one: its worker's fixed sentence


@dataclass(frozen=True, slots=True)
class Rendered:
    """The tokens that an engine would make of a prompt; none: it does not tell."""

    request_id: str
    token_ids: PackedTokens = field(repr=False)


class StepReport(msgspec.Struct, frozen=True):
    """All that one engine step produced for this router."""

    step_ms: float
    prefill_tokens: int
    decode_tokens: int
    deltas: tuple[Delta, ...]
    rendered: tuple[Rendered, ...] = ()
    more: tuple[More, ...] = ()  # of verbatim answers that have begun; behind `deltas`
