"""What `RouterCore` wants done: the only way in which it acts on the world.

Frozen records; whoever runs the core (the service, or a simulation) performs them in order.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

import msgspec

from radixroute.radix.ids import WorkerId
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import More, Passage, Verbatim
from radixroute.router.messages.inputs import MemberSpec, PackedTokens, RequestSpec


class Failure(Enum):
    """Why a request got no answer; each is one status code at a door."""

    NO_WORKERS = "no_workers"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    TOO_MANY_DEATHS = "too_many_deaths"
    WORKER_ERROR = "worker_error"
    REFUSED = "refused"  # no worker can serve such a request
    # It was cut off, and whoever is left cannot go on where it was.
    NOT_RESUMABLE = "not_resumable"
    HOPELESS = "hopeless"  # not even an idle fleet could make its deadline


class AttemptUsage(NamedTuple):
    """One dispatch: where to, and the prompt tokens that were cached there. None: not told yet."""

    worker_id: WorkerId
    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """What a request cost so far; see `Usage` in the wire contract."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    recomputed_tokens: int
    attempts: int
    worker_id: WorkerId
    ttft_ms: float
    queue_ms: float
    by_attempt: tuple[AttemptUsage, ...] = ()
    predicted_tokens: int = 0  # of the prompt, thought to be cached where it was sent


class Dispatch(msgspec.Struct, frozen=True):
    """Send this attempt to this worker."""

    worker_id: WorkerId
    spec: RequestSpec
    attempt: int
    dispatch_seq: int
    emitted: PackedTokens
    emitted_text_len: int


class Abort(msgspec.Struct, frozen=True):
    """Tell the worker that nobody wants this attempt any more."""

    worker_id: WorkerId
    request_id: str
    attempt: int


class AttemptName(NamedTuple):
    """One dispatch of a request."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask the worker whether it still has these: it ends those that it has not, once more."""

    worker_id: WorkerId
    attempts: tuple[AttemptName, ...]


@dataclass(frozen=True, slots=True)
class Render:
    """Ask the worker which tokens its engine would make of a verbatim request's prompt."""

    worker_id: WorkerId
    request_id: str
    verbatim: Verbatim
    lora: str


@dataclass(frozen=True, slots=True)
class Allow:
    """Tell the worker that the client of a verbatim request has taken so much of its answer."""

    worker_id: WorkerId
    request_id: str
    attempt: int
    n_bytes: int


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Send this to the client. `finish` set: the last one. A struct, as `Delta`."""

    request_id: str
    position: int
    token_ids: PackedTokens
    text: str
    finish: FinishReason | None
    usage: Usage | None
    logprobs: Logprobs | None = None  # of `token_ids`; None: not asked for
    passage: Passage | None = None  # of a verbatim request, instead of ids and text


@dataclass(frozen=True, slots=True)
class Fail:
    """End the client's request with an error."""

    request_id: str
    failure: Failure
    detail: str = ""  # its worker's sentence, where that refused it


class Grant(msgspec.Struct, frozen=True):
    """Tell the client where to stream from: the load is booked until its lease ends."""

    request_id: str
    lease_id: str
    worker_id: WorkerId
    address: str  # host:port of its Engine service
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a session with this worker, check it, and keep reopening it while it is listed."""

    spec: MemberSpec


@dataclass(frozen=True, slots=True)
class Drop:
    """Its session is over and its cache is not believed any more; it may be reconnected."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Disconnect:
    """It is not listed any more and idle: close its session for good and forget its cache."""

    worker_id: WorkerId


ToWorker: TypeAlias = Dispatch | Abort | Inquire | Allow | Render
# `More` as it came: it is its client's.
Action: TypeAlias = ToWorker | Emit | More | Fail | Grant | Connect | Drop | Disconnect
