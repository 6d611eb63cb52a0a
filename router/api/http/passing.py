"""Passing: an engine's own answer on its way to its client, byte for byte.

Owns what its client has not taken yet. Its worker sends no more than a window of it, and what one
read brings on top, before it is told that some was taken: a slow client holds that much of the
router and no more. A stream that waits for long gets its head and signs of life, as all streams do:
between events, never in one. Called in the router's loop, in order.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from radixroute.request.verbatim.records import WINDOW_BYTES, Passage
from radixroute.router.api.http import replies
from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.api.http.replies import Header, Problem
from radixroute.router.api.http.stream_head import StreamHead, failure
from radixroute.router.api.http.wording import DONE, Totals
from radixroute.router.messages.actions import Emit

# Taken bytes are told of in such amounts: one message for some hundreds of tokens.
TOLD_BYTES: Final = WINDOW_BYTES // 4
_NO_STREAM: Final = Problem(
    HTTPStatus.BAD_GATEWAY, "its engine's answer is no stream, and a long one", "api_error"
)


class Passing:
    """Implements `radixroute.router.api.http.answers.Answers`."""

    def __init__(
        self,
        connection: HttpConnection,
        allow: Callable[[int], None],
        stream_head: StreamHead | None = None,
    ) -> None:
        """`allow`: so many more bytes may come. `stream_head`: if a stream was asked for."""
        self._connection = connection
        self._allow = allow
        self._stream_head = stream_head
        self._headers: tuple[Header, ...] = ()
        self._is_stream = self._is_chunked = self._has_head = False
        self._is_late = False  # it is no stream, and the head of one is out
        self._latest = b""  # since the last look
        self._held: list[bytes] = []  # that its client has no room for
        self._n_taken = 0  # and not told of
        self._last: bytes | None = None  # what ends it, if that waits
        self._is_between = True  # nothing of an event went out without its end

    def begin(self, headers: tuple[Header, ...]) -> None:
        self._headers = headers

    def put(self, index: int, emit: Emit) -> None:
        passage = emit.passage
        if passage is None:
            return
        if not self._has_head:
            self._head(passage, is_whole=emit.finish is not None)
        if passage.data:
            self.more(passage.data)

    def more(self, data: bytes) -> None:
        """As it comes, once the head is out."""
        self._latest = data
        if self._is_late:
            if sum(map(len, self._held)) <= WINDOW_BYTES:
                self._held.append(data)
            self._allow(len(data))
        elif self._connection.is_paused:
            self._held.append(data)
        else:
            self._write(data)

    def look(self, now_s: float) -> bool:
        """Some times a second: whether its head went out before it began."""
        head, latest = self._stream_head, self._latest
        self._latest = b""
        if head is None or (self._has_head and not self._is_stream):
            return False
        if latest:
            head.told()
            self._is_between = latest.endswith(b"\n\n")
        return self._is_between and not self._held and head.look(now_s)

    def finish(self, totals: Totals) -> None:
        self._end(self._as_event() if self._is_late else b"")

    def fail(self, problem: Problem) -> None:
        """A stream says so in its own form; of what is no stream only its end tells."""
        self._connection.incoming.keeps_alive = False
        if self._is_stream:
            # It may have been cut in the middle of a line.
            self._end(b"\n\ndata: " + problem.body + b"\n\n" + DONE)
        else:
            self._connection.abort()

    def resumed(self) -> None:
        if not self._is_late:
            held, self._held = b"".join(self._held), []
            self._write(held)
        last, self._last = self._last, None
        if last is not None:
            self._end(last)

    def _head(self, passage: Passage, *, is_whole: bool) -> None:
        connection, head = self._connection, self._stream_head
        self._has_head, self._is_stream = True, passage.is_stream
        headers = self._headers
        is_usual = passage.is_stream and passage.status == HTTPStatus.OK
        if head is not None and (is_usual or head.is_out):
            self._is_late, self._is_stream = not is_usual, True
            head.open(headers)
            head.flush()
            self._is_chunked = not connection.incoming.is_old
            return
        if self._is_stream:
            headers = ((b"Cache-Control", b"no-cache"), *headers)
        length = len(passage.data) if is_whole else None
        if length is None and connection.incoming.is_old:
            connection.incoming.keeps_alive = False  # its end is the connection's
        self._is_chunked = length is None and not connection.incoming.is_old
        connection.write(
            replies.head(
                _status(passage.status),
                passage.content_type.encode("latin-1", "replace") or replies.JSON,
                headers,
                length=length,
                closes=connection.closes,
            )
        )

    def _as_event(self) -> bytes:
        """What was to come whole, mostly an error of the request's own: as a stream has it."""
        data = b"".join(self._held).strip()
        self._held = []
        if len(data) > WINDOW_BYTES:
            return failure(_NO_STREAM)
        return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n" + DONE

    def _write(self, data: bytes) -> None:
        if data:
            self._connection.write(replies.chunk(data) if self._is_chunked else data)
            self._n_taken += len(data)
        if self._n_taken >= TOLD_BYTES and not self._connection.is_paused:
            n_taken, self._n_taken = self._n_taken, 0
            self._allow(n_taken)

    def _end(self, last: bytes) -> None:
        if self._connection.is_paused:
            self._last = last
            return
        if last:
            self._connection.write(replies.chunk(last) if self._is_chunked else last)
        if self._is_chunked:
            self._connection.write(replies.LAST_CHUNK)
        self._connection.end()


def _status(code: int) -> HTTPStatus:
    """An engine's; what HTTP has no name for is its class."""
    try:
        return HTTPStatus(code)
    except ValueError:
        return HTTPStatus.BAD_REQUEST if 400 <= code < 500 else HTTPStatus.BAD_GATEWAY
