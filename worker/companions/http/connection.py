"""One HTTP/1.1 connection to an engine, and the exchange it carries.

Parses answers and gives them out as they come. A connection carries one exchange at a time and is
closed when that is cancelled. Its owner keeps it between two. On one event loop.
"""

import asyncio
from typing import Any, Protocol

import httptools

from radixroute.worker.companions.http.chunks import HEADS, whole_chunks


class AnswerSink(Protocol):
    """Who hears one answer. Exactly one of `ended` and `failed` comes, and then nothing."""

    def head(self, status: int, content_type: str) -> None: ...

    def body(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def failed(self, *, was_sent: bool) -> None:
        """The connection is gone, or there was none."""


class ConnectionOwner(Protocol):
    """Who keeps connections."""

    def released(self, connection: "Connection", *, is_open: bool) -> None:
        """Its exchange is over."""

    def lost(self, connection: "Connection") -> None: ...

    def repeat(self, exchange: "Exchange") -> None:
        """A kept connection was gone when the request reached it: nothing of it was read."""


class Exchange:
    """One request under way."""

    def __init__(self, data: bytes, sink: AnswerSink) -> None:
        self.data = data
        self.sink: AnswerSink | None = sink  # None: cancelled, or over
        self.connection: Connection | None = None
        self.may_repeat = False  # the connection was kept: it may have been closed just then

    def pause(self) -> None:
        """Its answer is not read for now; nothing happens once it is over."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()

    def cancel(self) -> None:
        """Nobody hears the rest; the engine learns it from the connection. Idempotent."""
        self.sink = None
        if self.connection is not None:
            self.connection.abort()


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._parser: Any = None
        self._content_type = ""
        self._is_whole = self._keeps = False
        self._is_chunk_over = False
        self._is_between = False  # two chunks: the parser has seen no byte of the next one
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.connection = self
        self._parser = httptools.HttpResponseParser(self)
        self._content_type = ""
        self._is_whole = self._is_between = False
        self._transport.write(exchange.data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self.is_open and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open and not self._transport.is_reading():
            self._transport.resume_reading()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.abort()  # an answer to nothing
            return
        if self._is_between:
            head = HEADS.get(len(data))
            if head is not None and data.startswith(head) and data.endswith(b"\r\n"):
                if exchange.sink is not None:
                    exchange.sink.body(data[len(head) : -2])
                return
            chunks, n_bytes = whole_chunks(data)
            for chunk in chunks:
                if exchange.sink is not None:
                    exchange.sink.body(chunk)
            if n_bytes == len(data):
                return
            data = data[n_bytes:]
        exchange.may_repeat, exchange.data = False, b""
        self._is_chunk_over = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail()
            self.abort()
            return
        self._is_between = self._is_chunk_over and data.endswith(b"\r\n")
        if self._is_whole:
            self._over(exchange)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.lost(self)
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.may_repeat and exchange.sink is not None:
            self._exchange, exchange.connection = None, None
            self._owner.repeat(exchange)
            return
        self._fail()

    # -- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._content_type = value.decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        sink = self._sink
        status = self._parser.get_status_code()
        if sink is not None and status >= 200:
            sink.head(status, self._content_type)

    def on_chunk_header(self) -> None:
        self._is_chunk_over = False

    def on_chunk_complete(self) -> None:
        self._is_chunk_over = True

    def on_body(self, data: bytes) -> None:
        sink = self._sink
        if sink is not None:
            sink.body(data)

    def on_message_complete(self) -> None:
        self._is_whole = self._parser.get_status_code() >= 200
        self._keeps = self._parser.should_keep_alive()  # known only now: it begins anew next

    # -- inside

    @property
    def _sink(self) -> AnswerSink | None:
        return None if self._exchange is None else self._exchange.sink

    def _over(self, exchange: Exchange) -> None:
        keeps = self._keeps and self.is_open
        self.resume()
        self._exchange, exchange.connection = None, None
        sink, exchange.sink = exchange.sink, None
        self._owner.released(self, is_open=keeps)
        if not keeps:
            self.abort()
        if sink is not None:
            sink.ended()

    def _fail(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.connection = None
        sink, exchange.sink = exchange.sink, None
        if sink is not None:
            sink.failed(was_sent=True)
