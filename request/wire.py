"""Between the wire's messages and this room's records: token ids, sampling, chat messages.

Owns the packed form of token ids. Never validates beyond what the conversion itself needs: limits
do that. Called by the router's and the worker's gRPC servers and by clients.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import PartialSampling
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import Passage

BYTES_PER_TOKEN = 4
_LITTLE_ENDIAN = np.dtype("<u4")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ALWAYS_SET = ("temperature", "top_p", "top_k", "seed", "max_tokens", "min_tokens")


def pack_tokens(tokens: Tokens | Iterable[int]) -> bytes:
    """Packed little-endian u32, as every `bytes` field of token ids carries them."""
    array = tokens if isinstance(tokens, np.ndarray) else as_tokens(list(tokens))
    return array.astype(_LITTLE_ENDIAN, copy=False).tobytes()


def unpack_tokens(data: bytes, *, field: str = "token_ids") -> Tokens:
    """A fresh, writable array. Raises `InvalidRequest` for a torn last id."""
    if len(data) % BYTES_PER_TOKEN:
        raise InvalidRequest(
            field,
            f"has {len(data)} bytes; token ids are packed little-endian u32, 4 bytes each",
        )
    return np.frombuffer(data, _LITTLE_ENDIAN).astype(np.uint32)


def partial_sampling_from_proto(message: pb.SamplingParams) -> PartialSampling:
    """A client's parameters: what it did not set is None."""
    return PartialSampling(
        temperature=message.temperature if message.HasField("temperature") else None,
        top_p=message.top_p if message.HasField("top_p") else None,
        top_k=message.top_k if message.HasField("top_k") else None,
        seed=message.seed if message.HasField("seed") else None,
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        min_tokens=message.min_tokens if message.HasField("min_tokens") else None,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        n=message.n if message.HasField("n") else None,
        presence_penalty=message.presence_penalty if message.HasField("presence_penalty") else None,
        frequency_penalty=(
            message.frequency_penalty if message.HasField("frequency_penalty") else None
        ),
        repetition_penalty=(
            message.repetition_penalty if message.HasField("repetition_penalty") else None
        ),
        min_p=message.min_p if message.HasField("min_p") else None,
        logit_bias=tuple(message.logit_bias.items()),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
    )


def partial_sampling_to_proto(partial: PartialSampling) -> pb.SamplingParams:
    """The other way: None stays unset."""
    return pb.SamplingParams(
        temperature=partial.temperature,
        top_p=partial.top_p,
        top_k=partial.top_k,
        seed=partial.seed,
        max_tokens=partial.max_tokens,
        min_tokens=partial.min_tokens,
        stop=partial.stop,
        stop_token_ids=partial.stop_token_ids,
        ignore_eos=partial.ignore_eos,
        n=partial.n,
        presence_penalty=partial.presence_penalty,
        frequency_penalty=partial.frequency_penalty,
        repetition_penalty=partial.repetition_penalty,
        min_p=partial.min_p,
        logit_bias=dict(partial.logit_bias),
        logprobs=partial.logprobs,
    )


def sampling_from_proto(message: pb.SamplingParams) -> SamplingParams:
    """Complete parameters, as routers send them to workers; an unset field is refused."""
    given = {field.name for field, _ in message.ListFields()}
    for name in _ALWAYS_SET:
        if name not in given:
            raise InvalidRequest(
                f"sampling.{name}", "is not set; a worker takes complete sampling parameters only"
            )
    return SamplingParams(
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        seed=message.seed,
        max_tokens=message.max_tokens,
        min_tokens=message.min_tokens,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        # Routers older than it leave it out.
        repetition_penalty=(
            message.repetition_penalty if message.HasField("repetition_penalty") else 1.0
        ),
        min_p=message.min_p,
        logit_bias=tuple(sorted(message.logit_bias.items())),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
    )


def sampling_to_proto(sampling: SamplingParams) -> pb.SamplingParams:
    """Every field set, so that the worker needs no defaults of its own; what is off is left out
    where leaving out means off."""
    return pb.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        stop=sampling.stop,
        stop_token_ids=sampling.stop_token_ids,
        ignore_eos=sampling.ignore_eos,
        presence_penalty=sampling.presence_penalty or None,
        frequency_penalty=sampling.frequency_penalty or None,
        repetition_penalty=(
            None if sampling.repetition_penalty == 1.0 else sampling.repetition_penalty
        ),
        min_p=sampling.min_p or None,
        logit_bias=dict(sampling.logit_bias),
        logprobs=sampling.logprobs,
    )


def logprobs_from_proto(message: pb.TokenLogprobs, n_tokens: int) -> Logprobs | None:
    """Of so many tokens; None for what is not of these, which tells nothing."""
    told = Logprobs(message.chosen, message.n_top, message.top_ids, message.top)
    return told if told.fits(n_tokens) else None


def logprobs_to_proto(logprobs: Logprobs) -> pb.TokenLogprobs:
    """The other way."""
    return pb.TokenLogprobs(
        chosen=logprobs.chosen,
        n_top=logprobs.n_top,
        top_ids=logprobs.top_ids,
        top=logprobs.top,
    )


def passage_from_proto(message: pb.Passage) -> Passage:
    """More of a verbatim answer."""
    return Passage(message.data, message.n_tokens, message.status, message.content_type)


def passage_to_proto(passage: Passage) -> pb.Passage:
    """The other way."""
    return pb.Passage(
        data=passage.data,
        n_tokens=passage.n_tokens,
        status=passage.status,
        content_type=passage.content_type,
    )


def scope_from_proto(message: pb.RequestScope) -> RequestScope:
    """What a request adds to its worker's scope; nothing if the message is empty."""
    if not (message.lora or message.cache_salt or message.tenant):
        return UNSCOPED
    return RequestScope(lora=message.lora, salt=message.cache_salt, tenant=message.tenant)


def scope_to_proto(scope: RequestScope) -> pb.RequestScope | None:
    """None, an unset field, for what adds nothing."""
    if scope is UNSCOPED:
        return None
    return pb.RequestScope(lora=scope.lora, cache_salt=scope.salt, tenant=scope.tenant)


def finish_from_proto(value: int) -> FinishReason | None:
    """None for "not finished"; a value of a newer wire reads as ERROR, never as "not finished"."""
    if value == pb.FINISH_REASON_UNSPECIFIED:
        return None
    try:
        return FinishReason(value)
    except ValueError:
        return FinishReason.ERROR


def finish_to_proto(finish: FinishReason | None) -> pb.FinishReason.ValueType:
    """The two enums share their values; a test holds them together."""
    if finish is None:
        return pb.FINISH_REASON_UNSPECIFIED
    return pb.FinishReason.ValueType(finish.value)


def messages_from_proto(message: pb.ChatMessages) -> Iterator[ChatMessage]:
    """A conversation, oldest message first; each is made when it is asked for."""
    return (ChatMessage(one.role, one.content) for one in message.messages)


def messages_to_proto(messages: Iterable[ChatMessage]) -> pb.ChatMessages:
    """The other way."""
    return pb.ChatMessages(
        messages=[pb.ChatMessage(role=one.role, content=one.content) for one in messages]
    )


def traceparent_of(told: str) -> str:
    """The same if it is a W3C trace context: it becomes a header. Else nothing."""
    return told if _TRACEPARENT.fullmatch(told) else ""
