"""Intake: one worker session's submits and prompt chunks become checked requests.

Owns prompts that have not arrived whole, bounded in number and length, and the checks that the
worker makes whatever a router checked before. Raises `InvalidRequest` and nothing else. Called by
the gRPC server for each message of a worker session; no I/O.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import RequestScope
from radixroute.request.errors import InvalidRequest, NoRoom
from radixroute.request.limits import (
    Limits,
    validate_last_of_session,
    validate_prompt,
    validate_sampling,
    validate_scope,
)
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.records import PATHS, Verbatim
from radixroute.request.wire import (
    sampling_from_proto,
    scope_from_proto,
    traceparent_of,
    unpack_tokens,
)

# Prompts of one worker session that may be half here: routers send a prompt's chunks in turn.
MAX_PARTIAL_PROMPTS = 64
# Ids are names in maps and logs; ours have 32 characters.
MAX_ID_LEN = 128
_NO_TOKENS = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that is whole and passed the checks."""

    request_id: str
    attempt: int
    dispatch_seq: int
    prompt: Tokens
    sampling: SamplingParams
    emitted: Tokens
    emitted_text_len: int
    scope: RequestScope
    verbatim: Verbatim | None = None  # instead of prompt and sampling
    allowance: int = 0  # bytes of its answer that may be sent
    traceparent: str = ""  # W3C trace context; empty: none, or what was told is no such thing
    last_of_session: int | None = None  # of an `EngineRequest`


@dataclass(slots=True)
class _Partial:
    message: pb.SubmitRequest
    parts: list[bytes]
    size: int

    @property
    def is_verbatim(self) -> bool:
        return self.message.HasField("verbatim")


class Intake:
    """Half-received prompts of one worker session."""

    def __init__(self, limits: Limits, *, max_verbatim_bytes: int = 0) -> None:
        """`max_verbatim_bytes`: of a verbatim request's body; 0: the engine takes none."""
        self._limits = limits
        self._max_verbatim_bytes = max_verbatim_bytes
        self._partial: dict[tuple[str, int], _Partial] = {}

    def submit(self, message: pb.SubmitRequest) -> Submission | None:
        """None: chunks follow."""
        if not 0 < len(message.request_id) <= MAX_ID_LEN:
            raise InvalidRequest("request_id", f"must have 1 to {MAX_ID_LEN} characters")
        validate_scope(scope_from_proto(message.scope))  # before chunks are waited for
        validate_last_of_session(message.last_of_session or None)
        first = message.prompt_token_ids
        if message.HasField("verbatim"):
            _check_verbatim(message.verbatim, is_taken=self._max_verbatim_bytes > 0)
            first = message.verbatim.body
        if not message.more_chunks:
            self._check_size(len(first), is_verbatim=message.HasField("verbatim"))
            return self._whole(message, first)
        key = (message.request_id, message.attempt)
        if key in self._partial:
            raise InvalidRequest("request_id", "its prompt is being received already")
        if len(self._partial) >= MAX_PARTIAL_PROMPTS:
            raise NoRoom("more_chunks", "too many prompts are half sent; finish some first")
        self._partial[key] = _Partial(message, [], 0)
        self._append(key, first)
        return None

    def chunk(self, message: pb.PromptChunk) -> Submission | None:
        """None: more follow, or the request was refused or aborted before."""
        key = (message.request_id, message.attempt)
        if key not in self._partial:
            return None
        partial = self._partial[key]
        is_verbatim = partial.is_verbatim
        self._append(key, message.verbatim_body if is_verbatim else message.prompt_token_ids)
        if message.more_chunks:
            return None
        del self._partial[key]
        return self._whole(partial.message, b"".join(partial.parts))

    def has(self, request_id: str, attempt: int) -> bool:
        """Whether its prompt is half here."""
        return (request_id, attempt) in self._partial

    def forget(self, request_id: str, attempt: int) -> bool:
        """An abort; True if the prompt was only half here."""
        return self._partial.pop((request_id, attempt), None) is not None

    def _append(self, key: tuple[str, int], data: bytes) -> None:
        partial = self._partial[key]
        partial.parts.append(data)
        partial.size += len(data)
        try:
            self._check_size(partial.size, is_verbatim=partial.is_verbatim)
        except InvalidRequest:
            del self._partial[key]
            raise

    def _check_size(self, n_bytes: int, *, is_verbatim: bool) -> None:
        if is_verbatim:
            if n_bytes > self._max_verbatim_bytes:
                most = self._max_verbatim_bytes
                raise InvalidRequest("verbatim", f"has a body of more than {most} bytes")
        elif n_bytes > 4 * self._limits.max_model_len:
            limit = self._limits.max_model_len
            raise InvalidRequest("prompt", f"is longer than the model's limit of {limit} tokens")

    def _whole(self, message: pb.SubmitRequest, data: bytes) -> Submission:
        if message.HasField("verbatim"):
            return _verbatim(message, data)
        prompt = unpack_tokens(data, field="prompt_token_ids")
        validate_prompt(prompt, self._limits)
        sampling = sampling_from_proto(message.sampling)
        validate_sampling(sampling, self._limits, prompt_len=len(prompt))
        emitted = unpack_tokens(message.resume.emitted_token_ids, field="resume.emitted_token_ids")
        self._check_emitted(emitted, sampling)
        return Submission(
            request_id=message.request_id,
            attempt=message.attempt,
            dispatch_seq=message.dispatch_seq,
            prompt=prompt,
            sampling=sampling,
            emitted=emitted,
            emitted_text_len=message.resume.emitted_text_len,
            scope=scope_from_proto(message.scope),
            traceparent=traceparent_of(message.traceparent),
            last_of_session=message.last_of_session or None,
        )

    def _check_emitted(self, emitted: Tokens, sampling: SamplingParams) -> None:
        if len(emitted) > sampling.max_tokens:
            raise InvalidRequest("resume.emitted_token_ids", "has more tokens than max_tokens")
        if len(emitted) and int(np.max(emitted)) >= self._limits.vocab_size:
            raise InvalidRequest("resume.emitted_token_ids", "has a token id out of range")


def _check_verbatim(asked: pb.VerbatimRequest, *, is_taken: bool) -> None:
    if not is_taken:
        raise InvalidRequest("verbatim", "this engine takes no requests as clients wrote them")
    if asked.path not in PATHS:
        raise InvalidRequest("verbatim", f"has a path that is none of {', '.join(PATHS)}")


def _verbatim(message: pb.SubmitRequest, body: bytes) -> Submission:
    asked = message.verbatim
    return Submission(
        request_id=message.request_id,
        attempt=message.attempt,
        dispatch_seq=message.dispatch_seq,
        prompt=_NO_TOKENS,
        sampling=SamplingParams(),
        emitted=_NO_TOKENS,
        emitted_text_len=0,
        scope=scope_from_proto(message.scope),
        verbatim=Verbatim(asked.path, body, asked.prompt_tokens),
        allowance=asked.allowance,
        traceparent=traceparent_of(message.traceparent),
    )
