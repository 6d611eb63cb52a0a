"""The demo's way to the router: the client that everybody uses.

One connection for one policy's run. A failed request becomes `AskFailed` with the router's own
words; nothing is retried here, so that no failure stays unseen.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from radixroute.answer import Delta
from radixroute.client import AsyncRouterClient
from radixroute.demo.errors import AskFailed
from radixroute.demo.progress import Progress
from radixroute.errors import FrontDoorError
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling
from radixroute.request.sampling import FinishReason

# No request is given up for its own time (see `progress`): this only ends what nobody watches.
REQUEST_TIMEOUT_S = 3600.0
# A machine that computes on every core may take long to answer even what costs nothing.
INSPECT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Piece:
    """New output of one request; the counts are there once the worker has reported them."""

    request_id: str
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
    """What the driver needs of a router."""

    def ask(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncIterator[Piece]: ...


class RouterPort:
    """A `Port` over gRPC, and the router's inspection beside it."""

    def __init__(self, address: str) -> None:
        self._client = AsyncRouterClient(
            address, timeout_s=REQUEST_TIMEOUT_S, inspect_timeout_s=INSPECT_TIMEOUT_S
        )
        self._progress = Progress()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def ask(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncIterator[Piece]:
        """Greedy, so that the same prompt gets the same answer under every policy."""
        sampling = PartialSampling(temperature=0.0, max_tokens=max_tokens)
        with _failing_as_asked():
            deltas = self._client.generate(messages, sampling)
            async for delta in self._progress.watched(deltas):
                yield _piece(delta)

    async def hits(self) -> dict[str, Hits]:
        """Counters by worker id, since the router's start."""
        with _failing_as_asked():
            answer = await self._client.hit_rates()
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
        with _failing_as_asked():
            answer = await self._client.list_workers()
        return {row.worker_id: row.kv_blocks_total for row in answer.workers}

    async def policy(self) -> str:
        with _failing_as_asked():
            answer = await self._client.router_info()
        return answer.policy


@contextmanager
def _failing_as_asked() -> Iterator[None]:
    try:
        yield
    except FrontDoorError as failed:
        raise AskFailed(str(failed)) from failed


def _piece(delta: Delta) -> Piece:
    if delta.finish is FinishReason.ABORT:
        raise AskFailed("the answer was aborted")
    usage = delta.usage
    return Piece(
        request_id=delta.request_id,
        token_ids=delta.token_ids,
        text=delta.text,
        position=delta.position,
        finished=delta.finish is not None,
        worker_id=usage.worker_id if usage else "",
        prompt_tokens=usage.prompt_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        attempts=usage.attempts if usage else 0,
    )
