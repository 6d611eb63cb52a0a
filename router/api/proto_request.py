"""A `GenerateRequest` as `prompts` reads requests: the gRPC door's form of `Asked`."""

from dataclasses import dataclass

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import PartialSampling
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import (
    messages_from_proto,
    partial_sampling_from_proto,
    unpack_tokens,
)
from radixroute.router.messages.inputs import PackedTokens, Resumed


@dataclass(frozen=True, slots=True)
class ProtoRequest:
    """One message."""

    message: pb.GenerateRequest

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
    def tenant(self) -> str:
        return self.message.tenant

    @property
    def priority(self) -> int | None:
        return self.message.priority if self.message.HasField("priority") else None

    @property
    def is_text(self) -> bool:
        return self.message.WhichOneof("prompt") != "token_ids"

    @property
    def n_bytes(self) -> int:
        match self.message.WhichOneof("prompt"):
            case "text":
                return len(self.message.text.encode())
            case "messages":
                return self.message.messages.ByteSize()
            case _:
                return len(self.message.token_ids)

    @property
    def resumed(self) -> Resumed | None:
        if not self.message.HasField("resume"):
            return None
        resume = self.message.resume
        return Resumed(
            PackedTokens(resume.emitted_token_ids), resume.emitted_text_len, resume.number
        )

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        match self.message.WhichOneof("prompt"):
            case "text":
                return tokenizer.encode(self.message.text)
            case "messages":
                return tokenizer.encode_chat(messages_from_proto(self.message.messages))
            case "token_ids":
                return unpack_tokens(self.message.token_ids)
            case _:
                raise InvalidRequest("prompt", "is missing: set text, messages or token_ids")

    def sampling(self) -> PartialSampling:
        return partial_sampling_from_proto(self.message.sampling)
