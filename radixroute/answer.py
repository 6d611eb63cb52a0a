"""One request and its answer as Python values: what a client gives and what it gets.

Pure conversions to and from the wire. Called by the clients in `client`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeGuard

import numpy as np

from radixroute.errors import BadInput, RequestFailed
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling
from radixroute.request.logprobs import TokenLogprob
from radixroute.request.sampling import FinishReason
from radixroute.request.wire import (
    BYTES_PER_TOKEN,
    finish_from_proto,
    logprobs_from_proto,
    messages_to_proto,
    pack_tokens,
    partial_sampling_to_proto,
    unpack_tokens,
)


@dataclass(frozen=True, slots=True)
class RawText:
    """Text to be continued as it stands, without the model's chat template."""

    text: str


# What a user says, text as it is, a conversation, or token ids. The first and the third go through
# the model's chat template: a string is a conversation of one message, here as in `submit`.
Prompt: TypeAlias = str | RawText | Sequence[ChatMessage] | Tokens | Sequence[int]


_KINDS = (
    "a prompt is text, RawText, a sequence of ChatMessage, or token ids: one row of whole numbers"
)


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """One worker that the request was sent to; counts are tokens."""

    worker_id: str
    cached_tokens: int | None  # of the prompt; None: it was lost before it said


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request used and where; counts are tokens."""

    prompt_tokens: int
    cached_tokens: int  # as the first worker reported
    output_tokens: int
    recomputed_tokens: int
    attempts: int
    worker_id: str  # of the last attempt
    ttft_ms: float  # router's arrival to first token
    queue_ms: float  # wait in the router before dispatch
    by_attempt: tuple[AttemptUsage, ...] = ()  # in order; empty: an older router does not say


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of one answer."""

    request_id: str
    token_ids: tuple[int, ...]
    text: str  # whole characters only
    position: int  # output tokens before this piece
    finish: FinishReason | None  # set in the last piece
    # In the first piece with tokens, and final in the last; the prompt is in the first answer's.
    usage: Usage | None
    index: int = 0  # which of the answers goes on here; all else is that one's own
    logprobs: tuple[TokenLogprob, ...] = ()  # of each new token, if they were asked for


class Routing(NamedTuple):
    """How a request wants to be treated, whatever it asks; empty: the router's own way."""

    policy: str = ""
    session_key: str = ""
    model: str = ""
    tenant: str = ""
    priority: int | None = None  # band 0 (first) to 9
    cache_salt: str = ""  # cached blocks are shared with requests of the same one only
    lora: str = ""  # an adapter that workers serve
    last_of_session: int | None = None  # how many requests the session had; None: it may go on


AS_THE_ROUTER_LIKES = Routing()


def request_of(
    prompt: Prompt, sampling: PartialSampling | None, routing: Routing = AS_THE_ROUTER_LIKES
) -> pb.GenerateRequest:
    """The wire's request. Raises `BadInput` for what the wire has no room for."""
    try:
        request = pb.GenerateRequest(
            sampling=partial_sampling_to_proto(_checked(sampling or PartialSampling())),
            **routing._asdict(),
        )
        if isinstance(prompt, str):
            _not_empty(prompt.strip())
            request.messages.CopyFrom(messages_to_proto([ChatMessage("user", prompt)]))
        elif isinstance(prompt, RawText):
            request.text = _not_empty(prompt.text)
        elif _is_conversation(prompt):
            request.messages.CopyFrom(messages_to_proto(prompt))
        else:
            request.token_ids = pack_tokens(_token_ids(prompt))
    except UnicodeEncodeError as error:
        raise BadInput("the text is not valid Unicode: half of a surrogate pair") from error
    except (ValueError, TypeError) as error:
        raise BadInput(
            "a sampling parameter, priority or last_of_session is out of range or no number: "
            f"{error}"
        ) from error
    return request


def _not_empty(text: object) -> str:
    if not isinstance(text, str):
        raise BadInput(_KINDS)
    if not text:
        raise BadInput("the prompt is empty; give some text")
    return text


def _is_conversation(prompt: object) -> "TypeGuard[Sequence[ChatMessage]]":
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes) or not prompt:
        return False
    return all(isinstance(one, ChatMessage) for one in prompt)


def _token_ids(prompt: object) -> Tokens:
    """One row of whole numbers; ranges are checked, never wrapped around."""
    ids = np.asarray(prompt)
    if ids.ndim != 1 or not (ids.size == 0 or np.issubdtype(ids.dtype, np.integer)):
        raise BadInput(_KINDS)
    if not ids.size:
        raise BadInput(f"the prompt is empty: {_KINDS}")
    if not (int(ids.min()) >= 0 and int(ids.max()) < 2**32):
        raise BadInput("token ids are whole numbers from 0 to 2^32 - 1")
    return ids.astype(np.uint32)


def _checked(sampling: PartialSampling) -> PartialSampling:
    stop: object = sampling.stop  # what callers without a type checker may give
    if isinstance(stop, str):
        raise BadInput('stop is a sequence of strings: write stop=("text",)')
    return sampling


def delta_of(response: pb.GenerateResponse) -> Delta:
    """One message of the stream; an answer that ended in an error raises `RequestFailed`."""
    finish = finish_from_proto(response.finish_reason)
    if finish in {FinishReason.ERROR, FinishReason.FULL, FinishReason.INVALID}:
        raise RequestFailed(f"request {response.request_id} failed on its worker; try again")
    return Delta(
        request_id=response.request_id,
        token_ids=tuple(unpack_tokens(response.token_ids).tolist()),
        text=response.text,
        position=response.position,
        finish=finish,
        usage=_usage(response.usage) if response.HasField("usage") else None,
        index=response.index,
        logprobs=_logprobs(response) if response.HasField("logprobs") else (),
    )


def _logprobs(response: pb.GenerateResponse) -> tuple[TokenLogprob, ...]:
    told = logprobs_from_proto(response.logprobs, len(response.token_ids) // BYTES_PER_TOKEN)
    if told is None:
        raise RequestFailed(f"request {response.request_id}: log probabilities of other tokens")
    return tuple(told.unpacked())


def _usage(usage: pb.Usage) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        recomputed_tokens=usage.recomputed_tokens,
        attempts=usage.attempts,
        worker_id=usage.worker_id,
        ttft_ms=usage.ttft_ms,
        queue_ms=usage.queue_ms,
        by_attempt=tuple(_attempt(one) for one in usage.by_attempt),
    )


def _attempt(one: pb.AttemptUsage) -> AttemptUsage:
    return AttemptUsage(one.worker_id, one.cached_tokens if one.HasField("cached_tokens") else None)
