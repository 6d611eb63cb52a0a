"""A `GenerateRequest` as `prompts` reads requests: the gRPC door's form of `Asked`.

What is too large for any prompt is refused as bytes: a message is parsed in one go, in the loop,
and sixteen megabytes of tiny chat messages take it a tenth of a second. A giant prompt stays bytes:
it is cut out of its message, and the rest is parsed alone.
"""

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    MAX_PROMPT_BYTES,
    Limits,
    PartialSampling,
    validate_length,
    validate_n,
    validate_n_biases,
    validate_n_messages,
    validate_stop_counts,
    validate_text_size,
)
from radixroute.request.wire import (
    BYTES_PER_TOKEN,
    messages_from_proto,
    partial_sampling_from_proto,
    unpack_tokens,
)
from radixroute.router.api.giants.forms import Form, Reading
from radixroute.router.api.giants.readers import GIANT_BYTES, Giant
from radixroute.router.api.grpc.wire_size import bytes_beside, cut_out
from radixroute.router.messages.inputs import PackedTokens, Resumed

# Of a message without its token ids, which are copied whole: the largest text and what is with it.
MAX_PARSED_BYTES = MAX_PROMPT_BYTES + 64 * 1024
_FIELDS = pb.GenerateRequest.DESCRIPTOR.fields_by_name
_TOKEN_IDS = _FIELDS["token_ids"].number
_EMITTED = (
    _FIELDS["resume"].number,
    pb.StreamResume.DESCRIPTOR.fields_by_name["emitted_token_ids"].number,
)
_REQUEST = pb.RouteRequest.DESCRIPTOR.fields_by_name["request"].number
_STREAMED = pb.RouteStreamRequest.DESCRIPTOR.fields_by_name["route"].number
_FORMS = {_FIELDS["text"].number: Form.TEXT, _FIELDS["messages"].number: Form.CHAT}
_PROMPTS = frozenset({*_FORMS, _TOKEN_IDS})


@dataclass(frozen=True, slots=True)
class ProtoRequest:
    """One message."""

    message: pb.GenerateRequest
    size_bytes: int  # of the whole message, as it came
    giant: Giant | None = None  # its prompt, if that was cut out

    @classmethod
    def of_generate(cls, data: bytes) -> "ProtoRequest":
        """Raises InvalidRequest for what is too large to be parsed, or is no such message."""
        _check_size(data, (_TOKEN_IDS,))
        if _is_quickly_parsed(data):
            return cls(_parsed(pb.GenerateRequest, data), len(data))
        cut = cut_out(data, _PROMPTS)
        if cut is None or cut.number not in _FORMS or not _is_quickly_parsed(cut.rest):
            raise _strange()
        giant = Giant(_FORMS[cut.number], cut.content)
        return cls(_parsed(pb.GenerateRequest, cut.rest), len(data), giant)

    @classmethod
    def of_route(cls, data: bytes) -> "ProtoRequest":
        """The same, of the request in a RouteRequest."""
        _check_size(data, (_REQUEST, _TOKEN_IDS))
        if len(data) <= GIANT_BYTES:
            return cls(_parsed(pb.RouteRequest, data).request, len(data))
        cut = cut_out(data, frozenset({_REQUEST}))
        if cut is None:
            raise _strange()
        return cls.of_generate(cut.content)

    @classmethod
    def of_stream(cls, data: bytes) -> "tuple[pb.RouteStreamRequest, ProtoRequest | None]":
        """A message of a RouteStream, and what it asks to be routed, if it does. Where that is a
        giant, the message comes without it."""
        _check_size(data, (_STREAMED, _REQUEST, _TOKEN_IDS))
        if len(data) <= GIANT_BYTES:
            message = _parsed(pb.RouteStreamRequest, data)
            if message.WhichOneof("kind") != "route":
                return message, None
            return message, cls(message.route.request, len(data))
        cut = cut_out(data, frozenset({_STREAMED}))
        if cut is None:
            raise _strange()
        return _parsed(pb.RouteStreamRequest, cut.rest), cls.of_route(cut.content)

    @property
    def model(self) -> str:
        return self.message.model

    @property
    def policy(self) -> str:
        return self.message.policy

    @property
    def session_key(self) -> str:
        return self.message.session_key

    @property
    def last_of_session(self) -> int | None:
        return self.message.last_of_session or None

    @property
    def tenant(self) -> str:
        return self.message.tenant

    @property
    def cache_salt(self) -> str:
        return self.message.cache_salt

    @property
    def lora(self) -> str:
        return self.message.lora

    @property
    def priority(self) -> int | None:
        return self.message.priority if self.message.HasField("priority") else None

    @property
    def is_text(self) -> bool:
        return self.giant is not None or self.message.WhichOneof("prompt") != "token_ids"

    @property
    def n_bytes(self) -> int:
        return self.size_bytes if self.is_text else len(self.message.token_ids)

    @property
    def resumed(self) -> Resumed | None:
        if not self.message.HasField("resume"):
            return None
        resume = self.message.resume
        return Resumed(
            PackedTokens(resume.emitted_token_ids), resume.emitted_text_len, resume.number
        )

    @property
    def n(self) -> int:
        """Answers; checked by `check`."""
        sampling = self.message.sampling
        return sampling.n if sampling.HasField("n") else 1

    @property
    def n_messages(self) -> int:
        return len(self.message.messages.messages)

    def check(self, limits: Limits) -> None:
        message = self.message
        if self.giant is not None and self.size_bytes > limits.max_prompt_bytes:
            validate_text_size(len(self.giant.data), limits)
        match message.WhichOneof("prompt"):
            case "text":
                # All of it is at least its text, and reading that makes two copies.
                if self.size_bytes > limits.max_prompt_bytes:
                    validate_text_size(len(message.text.encode()), limits)
            case "messages":
                validate_n_messages(self.n_messages, limits)
                if self.size_bytes > limits.max_prompt_bytes:
                    validate_text_size(message.messages.ByteSize(), limits)
            case "token_ids":
                if len(message.token_ids) % BYTES_PER_TOKEN == 0:  # a torn one is refused later
                    validate_length(len(message.token_ids) // BYTES_PER_TOKEN, limits)
        sampling = message.sampling
        if validate_n(self.n) > 1 and message.HasField("resume"):
            raise InvalidRequest("n", "is more than one; a resume goes on with one answer")
        validate_stop_counts(len(sampling.stop), len(sampling.stop_token_ids), limits)
        validate_n_biases(len(sampling.logit_bias))

    def tokens(self, reading: Reading) -> Tokens:
        match self.message.WhichOneof("prompt"):
            case "text":
                return reading.text(self.message.text)
            case "messages":
                return reading.chat(messages_from_proto(self.message.messages))
            case "token_ids":
                return unpack_tokens(self.message.token_ids)
            case _:
                raise InvalidRequest("prompt", "is missing: set text, messages or token_ids")

    def sampling(self) -> PartialSampling:
        return partial_sampling_from_proto(self.message.sampling)


def _is_quickly_parsed(data: bytes) -> bool:
    """Whatever is beside ids, which are copied whole."""
    beside_ids = bytes_beside(data, (_TOKEN_IDS,)) + bytes_beside(data, _EMITTED) - len(data)
    return beside_ids <= GIANT_BYTES


def _strange() -> InvalidRequest:
    reason = "is very large and not as clients send it: every field once, most of it the prompt"
    return InvalidRequest("request", reason)


_Message = TypeVar("_Message", bound=Message)


def _parsed(kind: type[_Message], data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        raise InvalidRequest("request", f"is no {name}: it cannot be parsed") from None


def _check_size(data: bytes, path: tuple[int, ...]) -> None:
    if len(data) <= MAX_PARSED_BYTES:
        return
    n_bytes = bytes_beside(data, path)
    if n_bytes > MAX_PARSED_BYTES:
        raise InvalidRequest(
            "prompt",
            f"comes in {n_bytes} bytes of text; shorten it to at most {MAX_PROMPT_BYTES}",
        )
