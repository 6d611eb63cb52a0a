"""The demo's way to the router: plain gRPC, as any client would use it.

One connection for one policy's run. A failed request becomes `AskFailed` with the router's own
words; nothing is retried here, so that no failure stays unseen.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import numpy as np

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc
from radixroute.request.chat import ChatMessage

_STUBS: Any = radixroute_pb2_grpc  # generated without annotations
# Far above any answer of the demo; a request that needs longer has been lost.
REQUEST_TIMEOUT_S = 180.0
INSPECT_TIMEOUT_S = 10.0


class AskFailed(Exception):
    """A request ended without a complete answer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """New output of one request; the counts are there once the worker has reported them."""

    token_ids: tuple[int, ...]
    text: str
    position: int  # output tokens before these
    finished: bool
    worker_id: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Hits:
    """One worker's counters, as the engines report them. Tokens, except `requests`."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    recomputed_tokens: int = 0

    def since(self, before: "Hits") -> "Hits":
        return Hits(
            self.requests - before.requests,
            self.prompt_tokens - before.prompt_tokens,
            self.cached_tokens - before.cached_tokens,
            self.predicted_tokens - before.predicted_tokens,
            self.recomputed_tokens - before.recomputed_tokens,
        )


class Port(Protocol):
    """What the replay needs of a router."""

    def ask(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncIterator[Piece]: ...


class RouterPort:
    """A `Port` over gRPC, and the router's inspection beside it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._router = _STUBS.RouterStub(self._channel)
        self._inspect = _STUBS.InspectStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def ask(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncIterator[Piece]:
        """Greedy, so that the same prompt gets the same answer under every policy."""
        request = pb.GenerateRequest(
            messages=pb.ChatMessages(
                messages=[pb.ChatMessage(role=m.role, content=m.content) for m in messages]
            ),
            sampling=pb.SamplingParams(temperature=0.0, max_tokens=max_tokens),
        )
        try:
            async for answer in self._router.Generate(request, timeout=REQUEST_TIMEOUT_S):
                yield _piece(answer)
        except grpc.aio.AioRpcError as failed:
            raise AskFailed(f"{failed.code().name}: {failed.details()}") from failed

    async def hits(self) -> dict[str, Hits]:
        """Counters by worker id, since the router's start."""
        answer = await _inspected(self._inspect.HitRates, pb.HitRatesRequest())
        return {
            row.worker_id: Hits(
                row.requests,
                row.prompt_tokens,
                row.cached_tokens,
                row.predicted_tokens,
                row.recomputed_tokens,
            )
            for row in answer.workers
        }

    async def pool_blocks(self) -> dict[str, int]:
        """Size of each worker's KV pool, in blocks."""
        answer = await _inspected(self._inspect.ListWorkers, pb.ListWorkersRequest())
        return {row.worker_id: row.kv_blocks_total for row in answer.workers}

    async def policy(self) -> str:
        answer = await _inspected(self._inspect.RouterInfo, pb.RouterInfoRequest())
        return str(answer.policy)


async def _inspected(method: Any, request: object) -> Any:
    try:
        return await method(request, timeout=INSPECT_TIMEOUT_S)
    except grpc.aio.AioRpcError as failed:
        raise AskFailed(f"{failed.code().name}: {failed.details()}") from failed


def _piece(answer: pb.GenerateResponse) -> Piece:
    if answer.finish_reason in (pb.FINISH_REASON_ABORT, pb.FINISH_REASON_ERROR):
        raise AskFailed(f"ended with {pb.FinishReason.Name(answer.finish_reason)}")
    return Piece(
        token_ids=tuple(np.frombuffer(answer.token_ids, dtype="<u4").tolist()),
        text=answer.text,
        position=answer.position,
        finished=answer.finish_reason != pb.FINISH_REASON_UNSPECIFIED,
        worker_id=answer.usage.worker_id,
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=answer.usage.cached_tokens,
        attempts=answer.usage.attempts,
    )
