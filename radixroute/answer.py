"""One request and its answer as Python values: what a client gives and what it gets.

Pure conversions to and from the wire. Called by the clients in `client`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from radixroute.errors import RequestFailed
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling
from radixroute.request.sampling import FinishReason
from radixroute.request.wire import (
    finish_from_proto,
    messages_to_proto,
    pack_tokens,
    partial_sampling_to_proto,
    unpack_tokens,
)

# Raw text, a conversation for the chat template, or token ids.
Prompt: TypeAlias = str | Sequence[ChatMessage] | Tokens


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request used and where; counts are tokens."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    recomputed_tokens: int
    attempts: int
    worker_id: str
    ttft_ms: float  # router's arrival to first token
    queue_ms: float  # wait in the router before dispatch


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of one answer."""

    request_id: str
    token_ids: tuple[int, ...]
    text: str  # whole characters only
    position: int  # output tokens before this piece
    finish: FinishReason | None  # set in the last piece
    usage: Usage | None  # in the first piece with tokens, and final in the last


def request_of(
    prompt: Prompt, sampling: PartialSampling | None, policy: str, session_key: str, model: str
) -> pb.GenerateRequest:
    """The wire's request."""
    request = pb.GenerateRequest(
        model=model,
        sampling=partial_sampling_to_proto(sampling or PartialSampling()),
        policy=policy,
        session_key=session_key,
    )
    if isinstance(prompt, str):
        request.text = prompt
    elif isinstance(prompt, np.ndarray):
        request.token_ids = pack_tokens(prompt)
    else:
        request.messages.CopyFrom(messages_to_proto(prompt))
    return request


def delta_of(response: pb.GenerateResponse) -> Delta:
    """One message of the stream; an answer that ended in an error raises `RequestFailed`."""
    finish = finish_from_proto(response.finish_reason)
    if finish is FinishReason.ERROR:
        raise RequestFailed(f"request {response.request_id} failed on its worker; try again")
    return Delta(
        request_id=response.request_id,
        token_ids=tuple(unpack_tokens(response.token_ids).tolist()),
        text=response.text,
        position=response.position,
        finish=finish,
        usage=_usage(response.usage) if response.HasField("usage") else None,
    )


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
    )
