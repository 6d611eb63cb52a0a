"""Prompts: from a client's message to tokens, block keys and complete sampling parameters.

Owns the threads on which long prompts are tokenised, so that streams do not stall behind one. Every
limit is checked here, before the core sees a request. Never logs a prompt.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Keys, Tokens
from radixroute.radix.keys.block_keys import block_keys
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    Limits,
    complete,
    validate_prompt,
    validate_text_size,
)
from radixroute.request.sampling import SamplingParams
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import (
    messages_from_proto,
    partial_sampling_from_proto,
    unpack_tokens,
)
from radixroute.router.errors import UnknownModel
from radixroute.router.links.join import FleetFacts

# Some 2,000 characters tokenise in under a millisecond; a thread's hand-over costs a tenth of that.
INLINE_BYTES = 2048
THREADS = 2


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request's content, validated."""

    tokens: Tokens
    keys: Keys  # of its full blocks
    sampling: SamplingParams


class PromptReader:
    """Reads prompts for one fleet."""

    def __init__(self, fleet: FleetFacts, tokenizer: Tokenizer) -> None:
        self._fleet = fleet
        self._tokenizer = tokenizer
        self._seed = fleet.scope.seed
        self._limits = Limits(max_model_len=fleet.max_model_len, vocab_size=fleet.vocab_size)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prompt")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: pb.GenerateRequest, seed: int) -> Prompt:
        """Raises InvalidRequest and UnknownModel. `seed`: of sampling, if the client gave none."""
        if request.model not in ("", self._fleet.model):
            raise UnknownModel(f"unknown model: this cluster serves {self._fleet.model!r}")
        size = _size_bytes(request)
        if request.WhichOneof("prompt") != "token_ids":
            validate_text_size(size, self._limits)
        if size <= INLINE_BYTES:
            return self._read(request, seed)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, request, seed)

    def _read(self, request: pb.GenerateRequest, seed: int) -> Prompt:
        tokens = self._tokens(request)
        validate_prompt(tokens, self._limits)
        partial = partial_sampling_from_proto(request.sampling)
        sampling = complete(partial, self._limits, prompt_len=len(tokens), seed=seed)
        keys = block_keys(tokens, self._fleet.block_size, self._seed)
        return Prompt(tokens, keys, sampling)

    def _tokens(self, request: pb.GenerateRequest) -> Tokens:
        match request.WhichOneof("prompt"):
            case "text":
                return self._tokenizer.encode(request.text)
            case "messages":
                return self._tokenizer.encode_chat(messages_from_proto(request.messages))
            case "token_ids":
                return unpack_tokens(request.token_ids)
            case _:
                raise InvalidRequest("prompt", "is missing: set text, messages or token_ids")


def _size_bytes(request: pb.GenerateRequest) -> int:
    """Bytes of prompt as they came."""
    match request.WhichOneof("prompt"):
        case "text":
            return len(request.text.encode())
        case "messages":
            return request.messages.ByteSize()
        case _:
            return len(request.token_ids)
