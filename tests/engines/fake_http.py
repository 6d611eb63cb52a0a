"""The HTTP server of fake engines: keep-alive, chunked event streams, and resets."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stream:
    """An event stream: `write` sends its lines; `gone` is called when its client leaves first."""

    write: Callable[[Callable[[Any], Awaitable[None]]], Awaitable[None]]
    gone: Callable[[], None]
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    sent: bytearray = field(default_factory=bytearray)  # of its body


class Cut(Exception):
    """The server ends here, in the middle of its answer."""


@dataclass
class Reply:
    status: int
    body: Any  # bytes, what becomes JSON, or a Stream


Route = Callable[[str, str, dict[str, str], bytes], Awaitable[Reply]]


class FakeHttp:
    def __init__(self, route: Route, host: str = "127.0.0.1") -> None:
        self._route = route
        self._host = host
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.n_connections = 0

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._accept, self._host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def kill(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.n_connections += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        reply = await self._route(method, path, headers, body)
        if isinstance(reply.body, Stream):
            return await _stream(reader, writer, reply.body)
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = "text/plain" if isinstance(reply.body, bytes) else "application/json"
        writer.write(
            f"HTTP/1.1 {reply.status} X\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await writer.drain()
        return True


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream
) -> bool:
    writer.write(
        f"HTTP/1.1 {stream.status} X\r\nContent-Type: {stream.content_type}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )

    async def send(line: Any) -> None:
        """An event; None: the last one; bytes go as they are."""
        data = line if isinstance(line, bytes) else b"[DONE]" if line is None else _json(line)
        data = data if isinstance(line, bytes) else b"data: " + data + b"\n\n"
        stream.sent += data
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    writing = asyncio.ensure_future(stream.write(send))
    leaving = asyncio.ensure_future(reader.read(1))  # nothing comes but an end
    try:
        await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            return False
        try:
            writing.result()
        except Cut:
            return False
        leaving.cancel()  # before the client knows that it may ask again
        await asyncio.gather(leaving, return_exceptions=True)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    finally:
        stream.gone()
        for task in (writing, leaving):
            task.cancel()
        await asyncio.gather(writing, leaving, return_exceptions=True)
    return not reader.at_eof()
