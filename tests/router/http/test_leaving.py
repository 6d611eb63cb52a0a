"""Clients over HTTP that vanish at every stage, or never read, leave nothing: no booking, no seat,
and no request at the worker."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import pytest

from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.counters import Count
from radixroute.router.service import RouterService
from tests.router.clusters import until
from tests.router.fakes import FakeWorker, WideWorker, answer, text_of
from tests.router.http.wire import (
    CHATS,
    COMPLETIONS,
    IDS,
    MESSAGES,
    Client,
    ask,
    chatting,
    connected,
    nobody_is_in,
)

LONG = {"prompt": IDS, "max_tokens": 400, "stream": True}
Stage = Callable[[RouterService, FakeWorker, Client], Awaitable[None]]


async def in_the_head(service: RouterService, worker: FakeWorker, client: Client) -> None:
    client.send(b"POST /v1/completions HTTP/1.1\r\nContent-")
    await client.writer.drain()


async def in_the_body(service: RouterService, worker: FakeWorker, client: Client) -> None:
    client.send(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
    await client.writer.drain()


async def being_tokenised(service: RouterService, worker: FakeWorker, client: Client) -> None:
    client.post(COMPLETIONS, {"prompt": "hello " * 200_000})
    await until(lambda: len(service.runtime.core._state.admission) == 1)


async def in_prefill(service: RouterService, worker: FakeWorker, client: Client) -> None:
    worker.never_prefill = True
    client.post(CHATS, {"messages": MESSAGES, "n": 3})
    await until(lambda: len(worker.live) == 3)


async def in_mid_stream(service: RouterService, worker: FakeWorker, client: Client) -> None:
    worker.hold_after = 3
    client.post(COMPLETIONS, {**LONG, "n": 2})
    await client.reader.readuntil(b"data: ")


async def with_a_whole_answer_half_made(
    service: RouterService, worker: FakeWorker, client: Client
) -> None:
    worker.hold_after = 3
    client.post(COMPLETIONS, {**LONG, "stream": False})
    await until(lambda: any(one.emitted == 3 for one in worker.live.values()))


async def with_another_request_sent_ahead(
    service: RouterService, worker: FakeWorker, client: Client
) -> None:
    await in_mid_stream(service, worker, client)
    client.post(COMPLETIONS, LONG)
    await client.writer.drain()


STAGES: tuple[Stage, ...] = (
    in_the_head,
    in_the_body,
    being_tokenised,
    in_prefill,
    in_mid_stream,
    with_a_whole_answer_half_made,
    with_another_request_sent_ahead,
)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_leaves_nothing(stage: Stage, is_reset: bool):
    worker = WideWorker("a") if stage is being_tokenised else FakeWorker("a")
    async with chatting(worker) as service:
        async with connected(service) as client:
            await stage(service, worker, client)
            if is_reset:
                client.writer.transport.abort()
            else:
                client.writer.close()
        await until(lambda: nobody_is_in(service) and not worker.live)
        service.runtime.core.check()
        worker.never_prefill, worker.hold_after = False, None
        assert (await ask(service, COMPLETIONS, {"prompt": IDS})).status == 200


async def test_nobody_waits_for_a_worker_that_a_gone_client_wanted():
    async with chatting(FakeWorker("a")) as service:
        service.set_members([])
        async with connected(service) as client:
            client.post(COMPLETIONS, {"prompt": IDS})
            await until(lambda: len(service.runtime.core._state.waiting) == 1)
        await until(lambda: nobody_is_in(service))


def narrow(service: RouterService) -> socket.socket:
    """A client with hardly any room for what it does not read."""
    assert service.http_address is not None
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    peer.connect((service.http_address.host, service.http_address.port))
    peer.setblocking(False)
    return peer


def post(body: object) -> bytes:
    data = json.dumps(body).encode()
    return f"POST {COMPLETIONS} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def test_a_client_that_never_reads_is_given_up(small_buffers):
    worker = FakeWorker("a", step_s=0.0001)
    async with chatting(worker, client_unread_timeout_s=0.3) as service:
        counters = service.runtime.core._state.counters
        with narrow(service) as peer:
            peer.send(post({**LONG, "n": 8}))
            await until(lambda: counters[Count.CLIENTS_UNREAD] == 1)
            await until(lambda: nobody_is_in(service) and not worker.live)


async def test_a_slow_reader_gets_fewer_events_and_every_token(small_buffers):
    worker = FakeWorker("a", step_s=0.0001)
    async with chatting(worker) as service:
        with narrow(service) as peer:
            peer.send(post({**LONG, "n": 8}))
            await until(lambda: len(worker.seen) == 8 and not worker.live)
            await until(lambda: nobody_is_in(service))
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += await _some(peer)
        events = [
            json.loads(line.removeprefix(b"data: "))["choices"][0]
            for line in got.split(b"\n")
            if line.startswith(b"data: {")
        ]
        for index in range(8):
            text = "".join(one["text"] for one in events if one["index"] == index)
            assert text == text_of(answer(IDS, 400))
        assert len(events) < 8 * 400 / 2
        assert sum(one["finish_reason"] == "length" for one in events) == 8


async def _some(peer: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(peer, 65536)


@pytest.fixture
def small_buffers(monkeypatch):
    """The door's own: a client that reads nothing is one at once."""
    made = HttpConnection.connection_made

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        transport.set_write_buffer_limits(2048)
        made(self, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", connection_made)
