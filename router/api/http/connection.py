"""Connection: one client's, with requests one after another.

Owns the transport, the reader of its bytes and the one exchange that runs. What comes while one
runs waits unparsed, and so bounded that no client fills the memory; reading goes on all the same,
for only who reads sees a client leave. Time limits are looked after by the door.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol, cast

from radixroute.router.api.http import replies
from radixroute.router.api.http.replies import Header, Problem
from radixroute.router.api.http.request_reader import Incoming, Refusal, RequestReader, Stage

MAX_AHEAD: Final = 256 * 1024  # bytes of further requests while one runs; then nothing is read
HEAD_S: Final = 10.0  # from a head's first byte to its last
BODY_S: Final = 60.0
LINGER_S: Final = 2.0  # a refused body is read so long, so that its sender gets to read why


_LIMITS: Final = {Stage.HEAD: HEAD_S, Stage.BODY: BODY_S}


class Exchange(Protocol):
    """A request on its way to its answer."""

    def lost(self) -> None:
        """Its client is gone: nothing is to be left of it."""

    def resumed(self) -> None:
        """Its client has taken what was written, and takes more."""

    def look(self, now_s: float) -> None:
        """Some times a second: whether it is silent for too long."""


class Owner(Protocol):
    """Whose connections they are."""

    idle_s: float
    unread_s: float

    def new_reader(self) -> RequestReader: ...

    def serve(self, incoming: Incoming, connection: "HttpConnection") -> Exchange | None:
        """None: answered already."""

    def refused(self, incoming: Incoming) -> None:
        """Counts it."""

    def opened(self, connection: "HttpConnection") -> bool:
        """False: there are too many."""

    def closed(self, connection: "HttpConnection") -> None: ...

    def unread(self) -> None:
        """A client took nothing for too long: counts it."""


class HttpConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, owner: Owner, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._clock = clock
        self._reader = owner.new_reader()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._is_busy = self._is_advancing = self._is_lingering = False
        self._ahead = bytearray()
        self.is_paused = False  # its client takes no more for now
        self.incoming = Incoming()  # the one being answered
        self.deadline_s: float | None = None
        self._awaited: Stage | None = None  # what the deadline is of

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._wait()
        if not self._owner.opened(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        if self._is_busy or self.is_paused:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD and self._transport is not None:
                self._transport.pause_reading()
            return
        self._reader.feed(data)
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._drop()
        self._owner.closed(self)

    def pause_writing(self) -> None:
        self.is_paused = True
        self.deadline_s = self._clock() + self._owner.unread_s

    def resume_writing(self) -> None:
        self.is_paused = False
        self._wait()
        if self._exchange is not None:
            self._exchange.resumed()
        self._advance()

    # -- what an exchange calls

    @property
    def is_gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def closes(self) -> bool:
        """This answer is the last one here."""
        return not self.incoming.keeps_alive

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def answer(
        self, status: HTTPStatus, content_type: bytes, body: bytes, headers: tuple[Header, ...] = ()
    ) -> None:
        """A whole one, and its end."""
        head = replies.head(status, content_type, headers, length=len(body), closes=self.closes)
        self.write(head if self.incoming.method == "HEAD" else head + body)
        self.end()

    def explain(self, problem: Problem, headers: tuple[Header, ...] = ()) -> None:
        """The same, of an error."""
        self.answer(problem.status, replies.JSON, problem.body, headers)

    def end(self) -> None:
        """The exchange is over: the next one may begin."""
        self._is_busy, self._exchange = False, None
        if self._transport is None:
            return
        if self.closes:
            self._close()
            return
        self._advance()

    # -- what the door calls

    def look(self, now_s: float) -> None:
        """Some times a second."""
        if self.deadline_s is not None and self.deadline_s < now_s:
            self.expire()
        elif self._exchange is not None:
            self._exchange.look(now_s)

    def close(self) -> None:
        """What is written still goes out, unless it is the middle of an answer."""
        if self._transport is None:
            return
        if self._is_busy:
            self.abort()
        else:
            self._close()

    def expire(self) -> None:
        """What it waited for did not come in time."""
        if self._is_lingering or self.is_paused:
            if self.is_paused:
                self._owner.unread()
            self.abort()
        elif self._reader.stage in _LIMITS:
            late = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time")
            self._refuse(Incoming(refusal=late))
        else:
            self._close()

    def abort(self) -> None:
        transport = self._transport
        self._drop()
        if transport is not None:
            transport.abort()

    def _drop(self) -> None:
        exchange, self._exchange, self._is_busy = self._exchange, None, False
        self.deadline_s = None
        if exchange is not None:
            exchange.lost()

    def _close(self) -> None:
        """Once what is written is taken."""
        self._is_lingering = True
        if self._transport is not None:
            self.deadline_s = self._clock() + self._owner.unread_s
            self._transport.close()

    # -- requests

    def _advance(self) -> None:
        """Begins what can be begun."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while not (self._is_busy or self.is_paused or self._is_lingering or self.is_gone):
                incoming = self._reader.take()
                if incoming is not None:
                    self._begin(incoming)
                elif self._ahead:
                    ahead, self._ahead = bytes(self._ahead), bytearray()
                    if self._transport is not None:
                        self._transport.resume_reading()
                    self._reader.feed(ahead)
                else:
                    break
        finally:
            self._is_advancing = False
        if self._reader.wants_continue and not self._is_busy:
            self._reader.wants_continue = False
            self.write(replies.CONTINUE)
        self._wait()

    def _begin(self, incoming: Incoming) -> None:
        self.incoming = incoming
        if incoming.refusal is not None:
            self._refuse(incoming)
            return
        self._is_busy, self.deadline_s, self._awaited = True, None, None
        exchange = self._owner.serve(incoming, self)
        if self._is_busy:
            self._exchange = exchange

    def _refuse(self, incoming: Incoming) -> None:
        """Its sender may still be sending: an end with input unread would reset the connection, and
        the answer would be lost."""
        refusal, transport = incoming.refusal, self._transport
        if refusal is None or transport is None:
            return
        self._owner.refused(incoming)
        problem = replies.problem_of_refusal(refusal)
        body = problem.body
        headers = replies.refusal_headers(refusal)
        head = replies.head(problem.status, replies.JSON, headers, length=len(body), closes=True)
        self._is_lingering, self._ahead = True, bytearray()
        transport.write(head + body)
        self.deadline_s = self._clock() + LINGER_S
        if transport.can_write_eof():
            transport.write_eof()

    def _wait(self) -> None:
        """For what comes next, and not for ever: more bytes of it bring no more time."""
        if self._is_lingering or self.is_paused:
            return
        if self._is_busy:
            self.deadline_s = self._awaited = None
            return
        stage = self._reader.stage
        if stage is not self._awaited or self.deadline_s is None:
            self._awaited = stage
            self.deadline_s = self._clock() + _LIMITS.get(stage, self._owner.idle_s)
