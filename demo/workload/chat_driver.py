"""Driver of a workload of chats: closed loop within a chat, a cap over all of them.

A chat sends its next turn a think time after the answer to the last one. At most `in_flight`
requests are open; turns that are ready wait in order for a place, and their clock starts when they
are sent. A failed turn ends its chat: every turn not sent is counted.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from radixroute.demo.errors import AskFailed
from radixroute.demo.port import Port
from radixroute.demo.workload.chats import Chat, Workload
from radixroute.request.chat import ChatMessage


class Clock(Protocol):
    """Time as the driver sees it; tests run it faster."""

    def now_ns(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class RealClock:
    """Monotonic nanoseconds and real waiting."""

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class ChatRequest:
    """One request: what was sent, when, and what came back. Filled in by the driver alone."""

    chat_id: str
    turn: int
    messages: tuple[ChatMessage, ...]
    ready_ns: int
    sent_ns: int
    in_flight: int  # this one included
    first_ns: int | None = None
    end_ns: int | None = None
    request_id: str = ""  # the router's: what `radixroute explain` takes
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    worker_id: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    attempts: int = 0
    finished: bool = False
    error: str | None = None

    @property
    def ttft_ms(self) -> float | None:
        return None if self.first_ns is None else (self.first_ns - self.sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class ChatOutcome:
    """Every request in the order sent."""

    requests: tuple[ChatRequest, ...]
    unsent: int  # turns never sent because an earlier one of their chat failed
    elapsed_s: float
    mean_in_flight: float

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(
            f"{a.chat_id}.{a.turn} {a.request_id}: {a.error}" for a in self.requests if a.error
        )


Watcher = Callable[[int, int, int], None]  # requests done, requests in flight, requests failed


class ChatDriver:
    """One workload, sent once. Use it once."""

    def __init__(
        self,
        port: Port,
        workload: Workload,
        *,
        in_flight: int,
        clock: Clock,
        watch: Watcher = lambda done, open_, failed: None,
    ) -> None:
        self._port = port
        self._workload = workload
        self._clock = clock
        self._watch = watch
        self._gate = asyncio.Semaphore(in_flight)  # fair: first ready, first sent
        self._requests: list[ChatRequest] = []
        self._open = 0
        self._busy_ns = 0  # sum over requests of the time they were open
        self._done = 0
        self._failed = 0

    async def run(self) -> ChatOutcome:
        began_ns = self._clock.now_ns()
        async with asyncio.TaskGroup() as chats:
            for chat in self._workload.chats:
                chats.create_task(self._chat(chat), name=chat.chat_id)
        elapsed_ns = max(self._clock.now_ns() - began_ns, 1)
        return ChatOutcome(
            requests=tuple(self._requests),
            unsent=self._workload.n_requests - len(self._requests),
            elapsed_s=elapsed_ns / 1e9,
            mean_in_flight=self._busy_ns / elapsed_ns,
        )

    async def _chat(self, chat: Chat) -> None:
        answers: list[str] = []
        await self._clock.sleep(chat.start_s)
        for turn in chat.turns:
            await self._clock.sleep(turn.think_s)
            request = await self._turn(chat, tuple(answers))
            if request.error is not None:
                return
            answers.append(request.text)

    async def _turn(self, chat: Chat, answers: tuple[str, ...]) -> ChatRequest:
        ready_ns = self._clock.now_ns()
        async with self._gate:
            self._open += 1
            request = ChatRequest(
                chat_id=chat.chat_id,
                turn=len(answers),
                messages=chat.messages(answers),
                ready_ns=ready_ns,
                sent_ns=self._clock.now_ns(),
                in_flight=self._open,
            )
            self._requests.append(request)
            try:
                await self._listen(request, chat.turns[request.turn].max_tokens)
            except AskFailed as failed:
                request.error = str(failed)
            finally:
                self._close(request)
        return request

    async def _listen(self, request: ChatRequest, max_tokens: int) -> None:
        async for piece in self._port.ask(request.messages, max_tokens):
            if piece.position != len(request.token_ids):
                raise AskFailed(
                    f"tokens lost or repeated: position {piece.position} after "
                    f"{len(request.token_ids)} tokens"
                )
            if piece.token_ids and request.first_ns is None:
                request.first_ns = self._clock.now_ns()
            request.request_id = piece.request_id
            request.token_ids.extend(piece.token_ids)
            request.text += piece.text
            request.finished = piece.finished
            if piece.worker_id:
                request.worker_id, request.attempts = piece.worker_id, piece.attempts
                request.prompt_tokens = piece.prompt_tokens
                request.cached_tokens = piece.cached_tokens
        if not request.finished or not request.token_ids:
            raise AskFailed("the stream ended without a complete answer")

    def _close(self, request: ChatRequest) -> None:
        request.end_ns = self._clock.now_ns()
        self._busy_ns += request.end_ns - request.sent_ns
        self._open -= 1
        self._done += 1
        self._failed += request.error is not None
        self._watch(self._done, self._open, self._failed)
