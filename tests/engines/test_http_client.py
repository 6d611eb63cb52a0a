"""HTTP to one engine: connections are kept, go stale unnoticed, and end requests by closing."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from radixroute.worker.companions.dialects.dialect import Ask
from radixroute.worker.companions.http.client import EngineAddress, EngineHttp
from radixroute.worker.errors import BadSetting
from tests.router.clusters import until

GET = Ask("GET", "/x")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Each connection is answered by `script(reader, writer, number of the connection)`."""

    def __init__(self, script):
        self._script = script
        self.connections = 0
        self.closed = asyncio.Event()
        self.requests: list[bytes] = []

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            await self._script(self, reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.close()

    async def request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head


@asynccontextmanager
async def served(script, **options):
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    http = EngineHttp(EngineAddress.of(f"http://127.0.0.1:{port}/base/"), **options)
    try:
        yield server, http
    finally:
        http.close()
        listening.close()


class Sink:
    def __init__(self):
        self.said = []
        self.over = asyncio.Event()

    def head(self, status, content_type):
        self.said.append((status, content_type))

    def body(self, data):
        self.said.append(data)

    def ended(self):
        self.said.append("ended")
        self.over.set()

    def failed(self, *, was_sent):
        self.said.append(("failed", was_sent))
        self.over.set()


async def always(server, reader, writer, number):
    while True:
        await server.request(reader)
        writer.write(OK)


async def test_a_connection_is_kept_and_carries_one_request_after_another():
    async with served(always, key="k1") as (server, http):
        for _ in range(5):
            answer = await http.ask(GET)
            assert (answer.status, answer.body) == (200, b"ok")
        assert server.connections == 1
        assert server.requests[0].startswith(b"GET /base/x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"Authorization: Bearer k1\r\n" in server.requests[0]
        both = await asyncio.gather(http.ask(GET), http.ask(GET))
        assert [one.status for one in both] == [200, 200]
        assert server.connections == 2


async def once_and_close_when_asked_again(server, reader, writer, number):
    await server.request(reader)
    writer.write(OK)
    await server.request(reader)


async def test_a_kept_connection_that_was_just_closed_costs_nothing():
    async with served(once_and_close_when_asked_again) as (server, http):
        for _ in range(3):
            assert (await http.ask(GET)).is_ok
        assert server.connections == 3
        assert len(server.requests) == 5  # two of them came to nothing there


async def close_at_once(server, reader, writer, number):
    await server.request(reader)


async def test_a_request_is_never_sent_twice_where_it_may_have_been_read():
    async with served(close_at_once) as (server, http):
        sink = Sink()
        http.send(GET, sink)
        await sink.over.wait()
        assert sink.said == [("failed", True)]
        assert server.connections == 1


async def half_an_answer(server, reader, writer, number):
    await server.request(reader)
    writer.write(OK)
    await server.request(reader)
    writer.write(OK[:-1])


async def test_an_answer_that_was_begun_is_not_asked_for_again():
    async with served(half_an_answer) as (server, http):
        assert (await http.ask(GET)).is_ok
        sink = Sink()
        http.send(GET, sink)
        await sink.over.wait()
        assert sink.said == [(200, ""), b"o", ("failed", True)]
        assert server.connections == 1


async def wait_for_the_end(server, reader, writer, number):
    await server.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    assert await reader.read() == b""


async def test_cancelling_closes_the_connection_and_nothing_is_heard_after():
    async with served(wait_for_the_end) as (server, http):
        sink = Sink()
        exchange = http.send(GET, sink)
        await until(lambda: len(sink.said) == 2)
        exchange.cancel()
        exchange.cancel()
        await asyncio.wait_for(server.closed.wait(), 5)
        assert sink.said == [(200, ""), b"a"]


async def no_http(server, reader, writer, number):
    await server.request(reader)
    writer.write(b"* OK IMAP4 ready\r\n")
    await reader.read()


async def test_what_is_no_http_ends_the_request():
    async with served(no_http) as (server, http):
        assert (await http.ask(GET)).status == 0
        await asyncio.wait_for(server.closed.wait(), 5)


async def test_nobody_there_is_said_as_never_sent():
    async with served(always) as (_, http):
        nobody = EngineHttp(EngineAddress.of("http://127.0.0.1:1"))
        sink = Sink()
        nobody.send(GET, sink)
        await sink.over.wait()
        assert sink.said == [("failed", False)]
        assert (await http.ask(GET)).is_ok


async def never(server, reader, writer, number):
    await server.request(reader)
    await reader.read()


async def test_a_question_without_an_answer_is_given_up_in_time():
    async with served(never) as (server, http):
        assert (await http.ask(GET, timeout_s=0.05)).status == 0
        await asyncio.wait_for(server.closed.wait(), 5)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:99999"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(BadSetting):
        EngineAddress.of(url)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("h:8000", "http://h:8000"),
        ("https://h/v/", "https://h:443/v"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_urls_are_taken_apart(url, whole):
    assert EngineAddress.of(url).url == whole
