"""Messages: what crosses the pipe between a worker's server and its engine process, as bytes.

Each message is a MessagePack array whose first item names it; no pickle, no ext types. Owns both
directions' records and their codec; transports only move the bytes. Whatever is not one of these
messages is `MalformedMessage`. Token ids and keys travel as raw little-endian arrays.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import msgpack
import msgspec
import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Keys, Tier, Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.engine.engine import (
    EngineInfo,
    EngineRequest,
    EngineStep,
    PromptReport,
    TokenOutput,
    WorkerSessionProgress,
)
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Start:
    """First message to the engine process."""

    settings: WorkerSettings


@dataclass(frozen=True, slots=True)
class Submit:
    """A request to queue."""

    request: EngineRequest
    arrived_ns: int  # at the server, on the monotonic clock both processes share


@dataclass(frozen=True, slots=True)
class Abort:
    """A request whose answer nobody wants any more."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Inquire:
    """A request of which somebody doubts that it still runs."""

    session_id: str
    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class EndWorkerSession:
    """A worker session whose stream is gone."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine process's first answer: the model is loaded."""

    info: EngineInfo


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine process ends; `reason` says what to do about it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """All that one engine step did."""

    step: EngineStep


@dataclass(frozen=True, slots=True)
class Refused:
    """A submitted request could never run; `output` ends it."""

    output: TokenOutput


Message: TypeAlias = (
    Start | Submit | Abort | Inquire | EndWorkerSession | Ready | Failed | Stepped | Refused
)


Row: TypeAlias = tuple[Any, ...]


def encode_message(message: Message) -> bytes:
    kind, to_row = _ENCODERS[type(message)]
    packed: bytes = msgpack.packb([kind, to_row(message)])
    return packed


def decode_message(data: bytes) -> Message:
    """Raises `MalformedMessage` for any bytes that `encode_message` did not make."""
    try:
        kind, row = msgpack.unpackb(data, use_list=False)
        return _DECODERS[kind](row)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"a message of {len(data)} bytes is not ours") from error


def _request_row(request: EngineRequest) -> list[Any]:
    return [
        request.request_id,
        request.attempt,
        request.session_id,
        _raw(request.prompt, "<u4"),
        msgspec.structs.asdict(request.sampling),
        _raw(request.emitted, "<u4"),
        request.dispatch_seq,
        _scope_row(request.scope),
        request.last_of_session,
    ]


def _request(row: Row) -> EngineRequest:
    request_id, attempt, session_id, prompt, sampling, emitted, dispatch_seq, scope, last = row
    return EngineRequest(
        request_id=request_id,
        attempt=attempt,
        session_id=session_id,
        prompt=_tokens(prompt),
        sampling=SamplingParams(**sampling),
        emitted=_tokens(emitted),
        dispatch_seq=dispatch_seq,
        scope=_scope(scope),
        last_of_session=last,
    )


def _step_row(step: EngineStep) -> list[Any]:
    return [
        step.step,
        [_output_row(output) for output in step.outputs],
        [_event_row(event) for event in step.events],
        step.step_ms,
        step.prefill_tokens,
        step.decode_tokens,
        step.kv_blocks_used,
        [
            [p.session_id, p.acknowledged_dispatch, p.in_flight, p.queued_tokens, p.active_blocks]
            for p in step.sessions
        ],
    ]


def _step(row: Row) -> EngineStep:
    step, outputs, events, step_ms, prefill_tokens, decode_tokens, blocks_used, sessions = row
    return EngineStep(
        step=step,
        outputs=tuple(map(_output, outputs)),
        events=tuple(map(_event, events)),
        step_ms=step_ms,
        prefill_tokens=prefill_tokens,
        decode_tokens=decode_tokens,
        kv_blocks_used=blocks_used,
        sessions=tuple(WorkerSessionProgress(*progress) for progress in sessions),
    )


def _output_row(output: TokenOutput) -> list[Any]:
    prompt, told = output.prompt, output.logprobs
    return [
        output.request_id,
        output.attempt,
        output.session_id,
        output.position,
        output.token_ids,
        None if output.finish is None else int(output.finish),
        output.error,
        None if prompt is None else asdict(prompt),
        None if told is None else (told.chosen, told.n_top, told.top_ids, told.top),
    ]


def _output(row: Row) -> TokenOutput:
    request_id, attempt, session_id, position, token_ids, finish, error, prompt, told = row
    return TokenOutput(
        request_id=request_id,
        attempt=attempt,
        session_id=session_id,
        position=position,
        token_ids=token_ids,
        finish=None if finish is None else FinishReason(finish),
        error=error,
        prompt=None if prompt is None else PromptReport(**prompt),
        logprobs=None if told is None else Logprobs(*told),
    )


def _event_row(event: Event) -> list[Any]:
    match event:
        case BlocksStored(parent, keys, tier, tokens, scope):
            raw_tokens = None if tokens is None else _raw(tokens, "<u4")
            return ["S", parent, _raw(keys, "<u8"), int(tier), raw_tokens, _scope_row(scope)]
        case BlocksRemoved(keys, tier):
            return ["R", _raw(keys, "<u8"), int(tier)]
        case CacheCleared():
            return ["C"]


def _event(row: Row) -> Event:
    match row:
        case ("S", parent, keys, tier, raw_tokens, scope):
            parent_key = None if parent is None else BlockKey(parent)
            tokens = None if raw_tokens is None else _tokens(raw_tokens)
            return BlocksStored(parent_key, _keys(keys), Tier(tier), tokens, _scope(scope))
        case ("R", keys, tier):
            return BlocksRemoved(_keys(keys), Tier(tier))
        case ("C",):
            return CacheCleared()
    raise ValueError("no such event")


def _scope_row(scope: RequestScope) -> tuple[str, str, str] | None:
    """None for the one that nearly all have."""
    return None if scope is UNSCOPED else (scope.lora, scope.salt, scope.tenant)


def _scope(row: tuple[str, str, str] | None) -> RequestScope:
    return UNSCOPED if row is None else RequestScope(*row)


def _raw(array: Tokens | Keys, dtype: str) -> bytes:
    return array.astype(dtype, copy=False).tobytes()


def _tokens(raw: bytes) -> Tokens:
    return np.frombuffer(raw, "<u4").astype(np.uint32, copy=False)


def _keys(raw: bytes) -> Keys:
    return np.frombuffer(raw, "<u8").astype(np.uint64, copy=False)


_ENCODERS: dict[type, tuple[str, Callable[[Any], object]]] = {
    Start: ("start", lambda message: asdict(message.settings)),
    Submit: ("submit", lambda message: [_request_row(message.request), message.arrived_ns]),
    Abort: ("abort", lambda message: [message.request_id, message.attempt]),
    Inquire: ("inquire", lambda message: [message.session_id, message.request_id, message.attempt]),
    EndWorkerSession: ("end_session", lambda message: message.session_id),
    Ready: ("ready", lambda message: asdict(message.info)),
    Failed: ("failed", lambda message: message.reason),
    Stepped: ("stepped", lambda message: _step_row(message.step)),
    Refused: ("refused", lambda message: _output_row(message.output)),
}

_DECODERS: dict[str, Callable[[Any], Message]] = {
    "start": lambda row: Start(WorkerSettings(**row)),
    "submit": lambda row: Submit(_request(row[0]), row[1]),
    "abort": lambda row: Abort(*row),
    "inquire": lambda row: Inquire(*row),
    "end_session": EndWorkerSession,
    "ready": lambda row: Ready(EngineInfo(**row)),
    "failed": Failed,
    "stepped": lambda row: Stepped(_step(row)),
    "refused": lambda row: Refused(_output(row)),
}
