"""Connections over HTTP: what is refused unread, what may come in pieces, what goes on."""

import asyncio
import json

import pytest

from radixroute.router.api.http.request_reader import Stage
from radixroute.router.counters import Count
from radixroute.router.errors import PortInUse
from radixroute.router.service import RouterService
from tests.router.clusters import settings, until
from tests.router.fakes import FakeWorker
from tests.router.http.wire import COMPLETIONS, IDS, chatting, connected, post_bytes

BODY = {"prompt": IDS, "max_tokens": 3}
LARGE = 100_000
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"


def count(service: RouterService, name: Count) -> int:
    return service.runtime.core._state.counters[name]


async def test_a_connection_serves_one_request_after_another():
    async with chatting() as service, connected(service) as client:
        first, second = [await client.ask(COMPLETIONS, BODY) for _ in range(2)]
        assert first.status == second.status == 200
        assert first.json["choices"] == second.json["choices"]
        assert first.json["id"] != second.json["id"]
        assert (await client.get("/healthz")).status == 200
        streamed = await client.ask(COMPLETIONS, {**BODY, "stream": True})
        text = "".join(event["choices"][0]["text"] for event in streamed.events)
        assert text == first.json["choices"][0]["text"]
        assert (await client.get("/readyz")).json == {"status": "ready"}


async def test_requests_sent_ahead_are_answered_in_order():
    async with chatting() as service, connected(service) as client:
        lengths = [5, 1, 3, 2]
        client.send(b"".join(post_bytes(COMPLETIONS, {**BODY, "max_tokens": n}) for n in lengths))
        for n in lengths:
            answer = await client.answer()
            assert answer.json["usage"]["completion_tokens"] == n


async def test_what_comes_while_an_answer_runs_waits():
    async with chatting(FakeWorker("a", step_s=0.01)) as service, connected(service) as client:
        client.post(COMPLETIONS, {**BODY, "max_tokens": 10, "stream": True})
        await client.reader.readuntil(b"\r\n\r\n")
        client.post(COMPLETIONS, BODY)
        await client._chunks()
        assert (await client.answer()).json["usage"]["completion_tokens"] == 3


async def test_a_body_may_come_in_chunks_and_byte_by_byte():
    async with chatting() as service, connected(service) as client:
        data = json.dumps(BODY).encode()
        pieces = b"".join(b"%x\r\n%b\r\n" % (1, data[i : i + 1]) for i in range(len(data)))
        whole = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n"
        for at in range(0, len(whole), 7):
            client.send(whole[at : at + 7])
            await client.writer.drain()
        assert (await client.answer()).status == 200


async def test_a_client_that_waits_to_be_told_is_told_to_send_its_body():
    async with chatting() as service, connected(service) as client:
        data = json.dumps(BODY).encode()
        client.send(f"{HEAD}Expect: 100-continue\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        told = await client.reader.readuntil(b"\r\n\r\n")
        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(data)
        assert (await client.answer()).status == 200


async def test_old_clients_get_no_chunks():
    async with chatting() as service, connected(service) as client:
        data = json.dumps({**BODY, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.0\r\nContent-Length: {len(data)}\r\n\r\n"
        client.send(head.encode() + data)
        answer = await client.answer()
        assert "transfer-encoding" not in answer.headers
        assert len(answer.events) == 3


async def test_a_large_body_is_refused_before_it_is_read():
    async with chatting(max_message_bytes=LARGE) as service, connected(service) as client:
        client.send(f"{HEAD}Expect: 100-continue\r\nContent-Length: {LARGE + 1}\r\n\r\n".encode())
        answer = await client.answer()
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        assert str(LARGE) in answer.json["error"]["message"]
        assert await client.at_end()
        assert count(service, Count.HTTP_TOO_LARGE) == 1


async def test_a_large_body_in_chunks_is_refused_as_soon_as_it_is_too_large():
    async with chatting(max_message_bytes=LARGE) as service, connected(service) as client:
        client.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(11):
            client.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert (await client.answer()).status == 413


async def test_a_sender_of_a_large_body_gets_to_read_why():
    """It sends all of it first, and reads then."""
    async with chatting(max_message_bytes=LARGE) as service, connected(service) as client:
        client.send(f"{HEAD}Content-Length: 4000000\r\n\r\n".encode())
        for _ in range(40):
            client.send(b"x" * 100_000)
            await client.writer.drain()
        assert (await client.answer()).status == 413


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (f"{HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (f"{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
        (f"{HEAD}Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (f"{HEAD}Content-Length: -3\r\n\r\n", 400),
        (f"{HEAD}Content-Length: 3x\r\n\r\n", 400),
        (f"{HEAD}Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (f"{HEAD}Transfer-Encoding: gzip\r\n\r\n", 400),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("\x16\x03\x01\x02\x00", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        (f"{HEAD}A: {'b' * 20_000}\r\n\r\n", 431),
        (f"{HEAD}" + "A: b\r\n" * 5_000, 431),
        (f"{HEAD}" + "A" * 40_000, 431),
        ("GET /" + "a" * 20_000, 431),
        ("GET /nowhere HTTP/1.1\r\n\r\n", 404),
        ("POST /v1/embeddings HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 404),
        ("GET /v1/completions HTTP/1.1\r\n\r\n", 405),
        ("POST /v1/models HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_is_answered_and_ended(request_bytes, status):
    async with chatting() as service, connected(service) as client:
        for at in range(0, len(request_bytes), 4096):
            client.send(request_bytes[at : at + 4096].encode("latin-1"))
            await asyncio.sleep(0)
        answer = await client.answer()
        assert answer.status == status
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
        assert await client.at_end()
        if status == 405:
            assert answer.headers["allow"] in ("POST", "GET, HEAD")


async def test_who_asks_for_another_protocol_is_answered_in_this_one():
    async with chatting() as service, connected(service) as client:
        client.send(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        )
        assert (await client.answer()).status == 200


async def test_slow_heads_and_bodies_end(monkeypatch):
    limits = {Stage.HEAD: 0.1, Stage.BODY: 0.1}
    monkeypatch.setattr("radixroute.router.api.http.connection._LIMITS", limits)
    async with chatting() as service:
        for begun in (HEAD, f"{HEAD}Content-Length: 10\r\n\r\nabc"):
            async with connected(service) as client:
                client.send(begun.encode())
                assert (await client.answer()).status == 408
                assert await client.at_end()
        assert count(service, Count.HTTP_TOO_SLOW) == 2


async def test_idle_connections_end():
    async with chatting(http_idle_s=0.1) as service, connected(service) as client:
        assert (await client.get("/healthz")).status == 200
        assert await client.at_end()


async def test_connections_beyond_the_limit_end_at_once():
    async with (
        chatting(http_max_connections=1) as service,
        connected(service) as first,
    ):
        assert (await first.get("/healthz")).status == 200
        async with connected(service) as second:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await second.get("/healthz")
        assert count(service, Count.HTTP_TOO_MANY) == 1
        assert (await first.get("/healthz")).status == 200


async def test_a_taken_port_is_named_and_nothing_is_left():
    async with chatting() as service:
        assert service.http_address is not None
        second = RouterService(settings(http_port=service.http_address.port))
        with pytest.raises(PortInUse, match=r"router\.http_port"):
            await second.start()
        await second.stop()


async def test_without_a_port_there_is_no_door():
    async with chatting(http_port=None) as service:
        assert service.http_address is None


async def test_a_router_that_stops_ends_its_connections():
    async with (
        chatting(FakeWorker("a", hold_after=2)) as service,
        connected(service) as idle,
        connected(service) as busy,
    ):
        assert (await idle.get("/healthz")).status == 200
        busy.post(COMPLETIONS, {**BODY, "stream": True})
        await busy.reader.readuntil(b"\r\n\r\n")
        await until(lambda: service.reception.n_open == 1)
        await service.stop()
        assert await idle.at_end()
        assert b"[DONE]" not in await busy.reader.read()
