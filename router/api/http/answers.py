"""Answers: how what comes from the core goes out to one client: as a stream, or whole.

Owns what its client has not taken yet: joined, so that a slow one gets fewer and larger events;
`max_tokens` bounds it. Called in the router's loop, in order.
"""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import msgspec

from radixroute.request.sampling import FinishReason
from radixroute.router.api.http import replies
from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.api.http.probabilities import Probabilities
from radixroute.router.api.http.replies import Header, Problem
from radixroute.router.api.http.stream_head import StreamHead, failure
from radixroute.router.api.http.wording import Totals, Wording
from radixroute.router.messages.actions import Emit


class Answers(Protocol):
    """Of one request, by index."""

    def begin(self, headers: tuple[Header, ...]) -> None:
        """The first output of any of them is about to come."""

    def put(self, index: int, emit: Emit) -> None: ...

    def finish(self, totals: Totals) -> None:
        """All have their last output."""

    def fail(self, problem: Problem) -> None:
        """There will be no more. Only after `begin`."""

    def resumed(self) -> None:
        """Its client takes more."""


@dataclass(slots=True)
class _Held:
    """What a client has not taken."""

    texts: list[str] = field(default_factory=list)
    told: list[Emit] = field(default_factory=list)  # those with log probabilities
    finish: FinishReason | None = None

    def add(self, emit: Emit) -> None:
        self.texts.append(emit.text)
        if emit.logprobs is not None:
            self.told.append(emit)
        self.finish = emit.finish


class Flow:
    """More text of one answer of a stream that has begun: a call and a write a token.

    All but the text is made once, with the size of its chunk, of which there are few."""

    __slots__ = ("_before", "_behind", "_connection", "_end", "_head", "_openings")

    def __init__(
        self, connection: HttpConnection, head: StreamHead, around: tuple[bytes, bytes]
    ) -> None:
        """`around`: an event before and behind its text."""
        self._connection = connection
        self._head = head
        self._before, self._behind = around
        self._end = self._behind + head.chunk_end
        self._openings: dict[int, bytes] = {}  # all before a text, by its encoded length

    def tell(self, text: str) -> bool:
        """False: its client is behind, and whoever keeps what waits for it is to be told."""
        if self._connection.is_paused:
            return False
        if text:
            encoded = msgspec.json.encode(text)
            n = len(encoded)
            opening = self._openings.get(n) or self._opening(n)
            self._head.has_told = True
            self._connection.write(b"".join((opening, encoded, self._end)))
        return True

    def _opening(self, n: int) -> bytes:
        size = len(self._before) + n + len(self._behind)
        opening = self._openings[n] = self._head.chunk_begin(size) + self._before
        return opening


class Streamed:
    """Server-sent events."""

    def __init__(
        self,
        connection: HttpConnection,
        head: StreamHead,
        wording: Wording,
        probabilities: Probabilities,
        n: int,
    ) -> None:
        self._connection = connection
        self._head = head
        self._wording = wording
        self._probabilities = probabilities
        self._n = n
        self._held: dict[int, _Held] = {}
        self._last: bytes | None = None  # what ends it, if that waits

    def begin(self, headers: tuple[Header, ...]) -> None:
        self._head.open(headers)
        self._head.hold(map(self._wording.opening, range(self._n)))

    def flow(self, index: int) -> Flow:
        """Of one answer; from `begin` on, for outputs that have nothing but text."""
        return Flow(self._connection, self._head, self._wording.around(index))

    def put(self, index: int, emit: Emit) -> None:
        if self._connection.is_paused:
            self._held.setdefault(index, _Held()).add(emit)
        elif emit.text or emit.finish is not None or emit.logprobs is not None:
            told = None if emit.logprobs is None else self._probabilities.worded(index, [emit])
            event = self._wording.event(index, emit.text, emit.finish, told)
            # Of one answer, what closes the stream follows its finish at once.
            self._head.tell(event, more_follows=emit.finish is not None and self._n == 1)
        else:
            self._head.flush()

    def finish(self, totals: Totals) -> None:
        self._end(self._wording.closing(totals))

    def fail(self, problem: Problem) -> None:
        self._connection.incoming.keeps_alive = False
        self._end(failure(problem))

    def resumed(self) -> None:
        held, self._held = self._held, {}
        self._head.write(
            self._wording.event(
                index,
                "".join(one.texts),
                one.finish,
                self._probabilities.worded(index, one.told),
            )
            for index, one in held.items()
        )
        last, self._last = self._last, None
        if last is not None:
            self._end(last)

    def _end(self, last: bytes) -> None:
        if self._connection.is_paused:
            self._last = last
            return
        self._head.end(last)


class Whole:
    """One JSON object at the end."""

    def __init__(
        self, connection: HttpConnection, wording: Wording, probabilities: Probabilities, n: int
    ) -> None:
        self._connection = connection
        self._wording = wording
        self._probabilities = probabilities
        self._headers: tuple[Header, ...] = ()
        self._held = [_Held() for _ in range(n)]

    def begin(self, headers: tuple[Header, ...]) -> None:
        self._headers = headers

    def put(self, index: int, emit: Emit) -> None:
        self._held[index].add(emit)

    def finish(self, totals: Totals) -> None:
        answers = [
            (
                "".join(one.texts),
                one.finish or FinishReason.ERROR,
                self._probabilities.worded(index, one.told),
            )
            for index, one in enumerate(self._held)
        ]
        body = self._wording.whole(answers, totals)
        self._connection.answer(HTTPStatus.OK, replies.JSON, body, self._headers)

    def fail(self, problem: Problem) -> None:
        self._connection.explain(problem, self._headers)

    def resumed(self) -> None:
        """Nothing was held back for its client."""
