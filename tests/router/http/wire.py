"""What tests of the door share: raw HTTP over a socket, and a cluster that chats."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from radixroute.router.service import RouterService
from tests.router.clusters import all_live, cluster, until
from tests.router.fakes import FakeWorker, chat_tokenizer

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
IDS = list(range(20, 60))
MESSAGES = [{"role": "user", "content": "hello world"}]


@asynccontextmanager
async def chatting(*workers: FakeWorker, **changes: Any) -> AsyncIterator[RouterService]:
    """A router whose model has a chat template, over live workers."""
    mine = workers or (FakeWorker("a"),)
    for worker in mine:
        worker.make_tokenizer = chat_tokenizer
    async with cluster(*mine, **changes) as (service, _router, _inspect):
        await until(lambda: all_live(service))
        yield service


def url(service: RouterService) -> str:
    return f"http://{service.http_address}"


@dataclass
class Answer:
    """A whole one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Of a stream; the last one is DONE."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert lines.pop() == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, path: str, body: Any, *headers: str) -> None:
        self.send(post_bytes(path, body, *headers))

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await self._chunks())
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
            return Answer(status, headers, body)
        return Answer(status, headers, await self.reader.read())

    async def ask(self, path: str, body: Any, *headers: str) -> Answer:
        self.post(path, body, *headers)
        return await self.answer()

    async def get(self, path: str, *headers: str) -> Answer:
        lines = "".join(f"{one}\r\n" for one in headers)
        self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        return await self.answer()

    async def at_end(self) -> bool:
        return await self.reader.read(1) == b""

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int((await self.reader.readline()).strip(), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
            if not size:
                return bytes(body)
            body += data


def post_bytes(path: str, body: Any, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{one}\r\n" for one in headers)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{lines}\r\n"
    return head.encode("latin-1") + data


@asynccontextmanager
async def connected(service: RouterService, limit: int = 1 << 24) -> AsyncIterator[Client]:
    assert service.http_address is not None
    reader, writer = await asyncio.open_connection(
        service.http_address.host, service.http_address.port, limit=limit
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def ask(service: RouterService, path: str, body: Any, *headers: str) -> Answer:
    async with connected(service) as client:
        return await client.ask(path, body, *headers)


def nobody_is_in(service: RouterService) -> bool:
    """No booking, no stream, no seat in the house."""
    state = service.runtime.core._state
    return not (
        len(state.requests)
        or len(state.waiting)
        or len(state.admission)
        or len(state.loads)
        or service.reception.n_open
    )
