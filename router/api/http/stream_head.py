"""Stream head: the head of one stream, and what its client hears while there is nothing to tell.

Owns whether the head is out. It goes out with the first event, or once the stream waited for long:
whoever is between a client and this door ends a connection on which nothing comes. From then on an
error is an event, and what a head would have told comes as comments, which readers of streams skip.
Time is passed in.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from radixroute.router.api.http import replies
from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.api.http.replies import Header, Problem
from radixroute.router.api.http.wording import DONE

SIGN: Final = b": waiting\n\n"
# Events are for now: no cache keeps them, and nginx does not collect them.
_HEADERS: Final = ((b"Cache-Control", b"no-cache"), (b"X-Accel-Buffering", b"no"))


class StreamHead:
    """Of one request."""

    def __init__(
        self,
        connection: HttpConnection,
        headers: tuple[Header, ...],
        *,
        sign_s: float,
        now_s: float,
    ) -> None:
        """`headers`: what is known from the start. `sign_s`: how long a client hears nothing at
        most; 0: as long as it takes."""
        self._connection = connection
        self._headers = headers
        self._sign_s = sign_s
        self._due_s = now_s + sign_s
        self._is_chunked = not connection.incoming.is_old
        self.has_told = False  # since the last look
        self._joined = b""  # goes out with what follows at once: each write is a system call
        self.is_out = False

    def look(self, now_s: float) -> bool:
        """Now and then. A client that heard nothing for long gets a sign; whether the head went out
        for that."""
        if self.has_told:
            self.has_told = False
            self._due_s = now_s + self._sign_s
        if not self._sign_s or now_s < self._due_s or self._connection.is_paused:
            return False
        self._due_s = now_s + self._sign_s
        is_early = not self.is_out
        if is_early:
            self._send(self._headers)
        self.write((SIGN,))
        return is_early

    def told(self) -> None:
        """Its client heard something by another way."""
        self._has_told = True

    def open(self, headers: tuple[Header, ...]) -> None:
        """The first event is about to come. `headers`: all that are known by now."""
        self.has_told = True
        if not self.is_out:
            self._send(headers)
            return
        late = [one for one in headers if one not in self._headers]
        if late:
            lines = b"".join(b": %b: %b\n" % one for one in late)
            self.hold((lines + b"\n",))

    def chunk_begin(self, size: int) -> bytes:
        """What goes before so many bytes of the stream, for who knows chunks."""
        return replies.chunk_begin(size) if self._is_chunked else b""

    @property
    def chunk_end(self) -> bytes:
        """And what goes behind them."""
        return replies.CHUNK_END if self._is_chunked else b""

    def fail(self, problem: Problem) -> None:
        """After `look` sent it, and before any event: there will be none."""
        self._connection.incoming.keeps_alive = False
        self.end(failure(problem))

    def tell(self, event: bytes, *, more_follows: bool = False) -> None:
        """One event, as it comes. `more_follows`: at once, so they go out together."""
        self.has_told = True
        self._joined += replies.chunk(event) if self._is_chunked else event
        if not more_follows:
            self.flush()

    def hold(self, events: Iterable[bytes]) -> None:
        """Some of the stream, which goes out with what follows at once, or with `flush`."""
        self._joined += self._framed(events)

    def flush(self) -> None:
        """What was held goes out."""
        data, self._joined = self._joined, b""
        if data:
            self._connection.write(data)

    def write(self, events: Iterable[bytes], behind: bytes = b"") -> None:
        """Some of the stream. `behind`: what ends it, for who knows chunks."""
        self._joined += self._framed(events, behind)
        self.flush()

    def _framed(self, events: Iterable[bytes], behind: bytes = b"") -> bytes:
        data = b"".join(events)
        if self._is_chunked:
            data = (replies.chunk(data) if data else b"") + behind
        return data

    def end(self, last: bytes) -> None:
        self.write((last,), replies.LAST_CHUNK)
        self._connection.end()

    def _send(self, headers: tuple[Header, ...]) -> None:
        connection, self.is_out = self._connection, True
        if not self._is_chunked:
            connection.incoming.keeps_alive = False  # its end is the connection's
        self._joined += replies.head(
            HTTPStatus.OK,
            replies.SSE,
            (*_HEADERS, *headers),
            length=None,
            closes=connection.closes,
        )


def failure(problem: Problem) -> bytes:
    """An error as the last events of a stream."""
    return b"data: " + problem.body + b"\n\n" + DONE
