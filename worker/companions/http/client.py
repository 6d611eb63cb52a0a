"""HTTP/1.1 to one engine: its address, and the connections that are kept to it.

A call's connection is its own until the answer has ended, and closing it is how a request is
cancelled. Reads no body and judges no status. On one event loop.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from radixroute.worker.companions.dialects.dialect import Answer, Ask
from radixroute.worker.companions.http.connection import AnswerSink, Connection, Exchange
from radixroute.worker.errors import BadSetting

# Servers close idle connections, vLLM after 5 s: one that may be closed now is not used.
_IDLE_S: Final = 3.0  # longer than an idle engine is left alone
_MAX_IDLE: Final = 256
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PORTS: Final = {"http": 80, "https": 443}


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
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
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

    def released(self, connection: Connection, *, is_open: bool) -> None:
        """Its exchange is over."""
        self._busy.discard(connection)
        if is_open and len(self._idle) < _MAX_IDLE:
            connection.idle_since_s = self._loop.time()
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
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
        connection = Connection(self)
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
