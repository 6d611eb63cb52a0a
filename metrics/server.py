"""Metrics server: GET /metrics over HTTP/1.1, one answer a connection, in the loop that starts it.

Owns the listening socket, its connections and what became of them. What is shown is taken in this
loop, so nothing is read from another thread; making text of it is a thread's work. Peers are
strangers: heads, connections and time are bounded, and no answer quotes what was asked.
"""

import asyncio
import errno
import logging
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from radixroute.metrics.own import OWN_METRICS, OwnSight
from radixroute.metrics.page import Page, Part, Rendered, render

_log = logging.getLogger(__name__)

PATH: Final = "/metrics"
MAX_HEAD_BYTES: Final = 8192  # request line and headers; Prometheus sends some 300
MAX_CONNECTIONS: Final = 16  # a scraper needs one
CONNECTION_S: Final = 10.0  # from accept to close: Prometheus' own default for a whole scrape
LINGER_BYTES: Final = 1 << 16  # of a refused request, read so that its peer gets to read why
LINGER_S: Final = 1.0
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Head:
    """What counts of a request."""

    method: str
    accept: str


class _Refused(Exception):
    """No request for the page."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class MetricsServer:
    """One page. `start`, then `stop`; both in one loop."""

    def __init__(self, *parts: Part[Any]) -> None:
        self._page = Page(Part(OWN_METRICS, self._own), *parts)
        self._rendering = asyncio.Lock()  # many scrapers take turns: one thread's worth of work
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._served = self._refused = self._given_up = 0

    async def start(self, host: str, port: int) -> int:
        """Returns the port. Raises OSError.

        If another process has it, any free one does: nothing may fail to start for want of a
        place for its metrics, and two clusters on one machine have the same default.
        """
        try:
            self._server = await self._listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not port:
                raise
            self._server = await self._listen(host, 0)
        bound = int(self._server.sockets[0].getsockname()[1])
        if port not in (0, bound):
            _log.warning("another process listens on %s:%d: metrics are on %d", host, port, bound)
        return bound

    async def stop(self) -> None:
        """Ends every connection. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections = list(self._open)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD_BYTES)

    def _own(self) -> OwnSight:
        return OwnSight(self._served, self._refused, self._given_up)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            self._refused += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="metrics connection")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # `drain` then waits until all is sent, and a close leaves nothing behind.
            writer.transport.set_write_buffer_limits(0)
            async with asyncio.timeout(CONNECTION_S):
                await self._converse(reader, writer)
            self._served += 1
        except _Refused as refusal:
            self._refused += 1
            await _explain(refusal, reader, writer)
        except (TimeoutError, OSError, EOFError):
            self._given_up += 1
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _read_head(reader)
        rendered = await self._render(head.accept)
        writer.write(_answer(HTTPStatus.OK, rendered, has_body=head.method != "HEAD"))
        await writer.drain()

    async def page(self, accept: str) -> Rendered:
        """As it is now, for who accepts this; for another server that shows it too."""
        async with self._rendering:
            return await asyncio.to_thread(render, self._page.take(), accept)

    async def _render(self, accept: str) -> Rendered:
        try:
            return await self.page(accept)
        except Exception:  # noqa: BLE001 - a fault of one table must not end the process
            _log.exception("the metrics page cannot be made")
        raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "the page cannot be made: see the log")


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise _Refused(status, f"a request has at most {MAX_HEAD_BYTES} bytes") from None
    request_line, *lines = data.decode("latin-1").split("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise _Refused(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    method, target, _ = words
    if target.partition("?")[0] != PATH:
        raise _Refused(HTTPStatus.NOT_FOUND, f"metrics are at {PATH}")
    if method not in ("GET", "HEAD"):
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD")
    headers = (line.partition(":") for line in lines)
    accepted = [value for name, _, value in headers if name.strip().lower() == "accept"]
    return _Head(method, ",".join(accepted))


def _answer(status: HTTPStatus, content: Rendered, *, has_body: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content.content_type}",
        f"Content-Length: {len(content.body)}",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head + content.body if has_body else head


async def _explain(
    refusal: _Refused, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Says why, and reads on for a moment: an end with input unread would reset the connection, and
    the peer would lose the answer."""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(LINGER_S):
            writer.write(_answer(refusal.status, Rendered(_TEXT, f"{refusal}\n".encode())))
            await writer.drain()
            writer.write_eof()
            n = 0
            while n < LINGER_BYTES and (data := await reader.read(MAX_HEAD_BYTES)):
                n += len(data)
