"""The clients, as a process: `python -m bench.router.load`.

A line of input is one `Load` as JSON; a line of output says what came of it. Clients read all that
comes and look at it only when an answer is whole, so that they cost little beside what is measured.
"""

import asyncio
import sys
import time
from collections import deque
from typing import Final, cast

import httptools
import msgspec
import uvloop

from bench.router import grpc_load
from bench.router.bodies import Bodies
from bench.router.wire import Load, Outcome

_WORDED: Final = (b'"text":"', b'"content":"')  # one a token, whoever relays it
_FAILED_BYTES: Final = 300  # of an answer that is an error, to say what it was


class _Client(asyncio.Protocol):
    """One connection; asks again until there is nothing left to ask."""

    def __init__(self, load: Load, bodies: deque[bytes], path: str, out: Outcome) -> None:
        self._load, self._bodies, self._out = load, bodies, out
        self._mark = _WORDED["chat" in path]
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(SystemExit("a connection was closed in the middle"))

    def ask(self) -> None:
        if not self._bodies:
            self._transport.close()
            self.over.set_result(None)
            return
        body = self._bodies.popleft()
        self._parser = httptools.HttpResponseParser(self)
        self._pieces = []
        self._sent_s = time.perf_counter()
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._pieces:
            self._out.first_ms.append((time.perf_counter() - self._sent_s) * 1e3)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        whole = b"".join(self._pieces)
        if self._parser.get_status_code() != 200:
            self._out.failed = whole[:_FAILED_BYTES].decode("latin-1")
        # A chat may open with an event that has a role and no text.
        self._out.tokens += whole.count(self._mark) - whole.count(self._mark + b'"')
        self._out.answers += 1
        self.ask()


async def http(load: Load) -> Outcome:
    bodies = Bodies(load.kind, load.max_tokens, load.first)
    waiting = deque(bodies.take() for _ in range(load.requests))
    out, loop = Outcome(), asyncio.get_running_loop()
    clients = [_Client(load, waiting, bodies.path, out) for _ in range(load.clients)]
    for client in clients:
        await loop.create_connection(lambda one=client: one, "127.0.0.1", load.port)  # type: ignore[misc]
    begun_s = time.perf_counter()
    for client in clients:
        client.ask()
    await asyncio.gather(*(client.over for client in clients))
    out.seconds = time.perf_counter() - begun_s
    return out


async def run(load: Load) -> Outcome:
    return await (http(load) if load.way == "http" else grpc_load.run(load))


async def main() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        outcome = await run(msgspec.json.decode(line, type=Load))
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
