"""HTTP/1.1 to one engine: connections that are kept, answers given out as they come.

Owns the pool and what is under way. A call's connection is its own until the answer has ended, and
closing it is how a request is cancelled. Reads no body and judges no status. On one event loop.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httptools

from radixroute.worker.companions.dialects.dialect import Answer, Ask
from radixroute.worker.errors import BadSetting

# Servers close idle connections, vLLM after 5 s: one that may be closed now is not used.
_IDLE_S: Final = 2.0
_MAX_IDLE: Final = 256
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PORTS: Final = {"http": 80, "https": 443}


class AnswerSink(Protocol):
    """Who hears one answer. Exactly one of `ended` and `failed` comes, and then nothing."""

    def head(self, status: int, content_type: str) -> None: ...

    def body(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def failed(self, *, was_sent: bool) -> None:
        """The connection is gone, or there was none."""


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """An engine's URL, taken apart. Raises `BadSetting` for what is none."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "EngineAddress":
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in _PORTS or not parts.hostname or port == -1:
            raise BadSetting("url", f"{url!r} is none; write http://HOST:PORT", section="engine")
        return cls(
            parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/")
        )

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Exchange:
    """One request under way."""

    def __init__(self, data: bytes, sink: AnswerSink) -> None:
        self.data = data
        self.sink: AnswerSink | None = sink  # None: cancelled, or over
        self.connection: _Connection | None = None
        self.may_repeat = False  # the connection was kept: it may have been closed just then

    def cancel(self) -> None:
        """Nobody hears the rest; the engine learns it from the connection. Idempotent."""
        self.sink = None
        if self.connection is not None:
            self.connection.abort()


class EngineHttp:
    """`send` and `ask`, then `close`."""

    def __init__(
        self,
        address: EngineAddress,
        *,
        key: str = "",
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = 5.0,
    ) -> None:
        self._address = address
        self._tls = tls if tls is not None or address.scheme == "http" else _system_tls()
        self._connect_timeout_s = connect_timeout_s
        bearer = f"Authorization: Bearer {key}\r\n" if key else ""
        self._common = f"Host: {address.authority}\r\n{bearer}Accept: */*\r\n"
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def send(self, ask: Ask, sink: AnswerSink) -> Exchange:
        """Never waits; what comes of it, a failure too, goes to `sink` later."""
        exchange = Exchange(self._encoded(ask), sink)
        self._begin(exchange)
        return exchange

    async def ask(self, ask: Ask, timeout_s: float = 5.0) -> Answer:
        """The whole answer; status 0 when there was none in time."""
        whole = _Whole(self._loop.create_future())
        exchange = self.send(ask, whole)
        try:
            async with asyncio.timeout(timeout_s):
                return await whole.answer
        except TimeoutError:
            return Answer(0)
        finally:
            exchange.cancel()

    def close(self) -> None:
        """Everything under way is cancelled. Idempotent."""
        for task in self._connecting:
            task.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()

    # -- of connections

    def released(self, connection: "_Connection", *, is_open: bool) -> None:
        """Its exchange is over."""
        self._busy.discard(connection)
        if is_open and len(self._idle) < _MAX_IDLE:
            connection.idle_since_s = self._loop.time()
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def repeat(self, exchange: Exchange) -> None:
        """A kept connection was gone when the request reached it: nothing of it was read."""
        exchange.may_repeat = False
        self._connect(exchange)

    # -- inside

    def _begin(self, exchange: Exchange) -> None:
        now_s = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if now_s - connection.idle_since_s < _IDLE_S and connection.is_open:
                self._busy.add(connection)
                exchange.may_repeat = True
                connection.carry(exchange)
                return
            connection.abort()
        self._connect(exchange)

    def _connect(self, exchange: Exchange) -> None:
        task = self._loop.create_task(self._open(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open(self, exchange: Exchange) -> None:
        connection = _Connection(self)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._loop.create_connection(
                    lambda: connection, self._address.host, self._address.port, ssl=self._tls
                )
        except (OSError, TimeoutError):
            sink, exchange.sink = exchange.sink, None
            if sink is not None:
                sink.failed(was_sent=False)
            return
        self._busy.add(connection)
        if exchange.sink is None:
            connection.abort()
        else:
            connection.carry(exchange)

    def _encoded(self, ask: Ask) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in ask.headers)
        length = f"Content-Length: {len(ask.body)}\r\n" if ask.body or ask.method != "GET" else ""
        head = f"{ask.method} {self._address.path}{ask.path} HTTP/1.1\r\n"
        return f"{head}{self._common}{lines}{length}\r\n".encode() + ask.body


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, owner: EngineHttp) -> None:
        self._owner = owner
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._parser: Any = None
        self._content_type = ""
        self._is_whole = False
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.connection = self
        self._parser = httptools.HttpResponseParser(self)
        self._content_type = ""
        self._is_whole = False
        self._transport.write(exchange.data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.abort()  # an answer to nothing
            return
        exchange.may_repeat, exchange.data = False, b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail()
            self.abort()
            return
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

    def on_body(self, data: bytes) -> None:
        sink = self._sink
        if sink is not None:
            sink.body(data)

    def on_message_complete(self) -> None:
        self._is_whole = self._parser.get_status_code() >= 200

    # -- inside

    @property
    def _sink(self) -> AnswerSink | None:
        return None if self._exchange is None else self._exchange.sink

    def _over(self, exchange: Exchange) -> None:
        keeps = self._parser.should_keep_alive() and self.is_open
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


class _Whole:
    """Collects an answer."""

    def __init__(self, answer: "asyncio.Future[Answer]") -> None:
        self.answer = answer
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def head(self, status: int, content_type: str) -> None:
        self._status = status

    def body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= _MAX_ANSWER_BYTES:
            self._parts.append(data)

    def ended(self) -> None:
        is_whole = self._size <= _MAX_ANSWER_BYTES
        self._done(Answer(self._status, b"".join(self._parts)) if is_whole else Answer(0))

    def failed(self, *, was_sent: bool) -> None:
        self._done(Answer(0))

    def _done(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()
