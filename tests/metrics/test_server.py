"""The metrics page over real sockets: what is served, and what bad or slow peers get."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from radixroute.metrics import server as server_module
from radixroute.metrics.loop_lag import LoopLag
from radixroute.metrics.metric import Kind, Metric, Sample, one
from radixroute.metrics.page import Part
from radixroute.metrics.server import MAX_CONNECTIONS, MAX_HEAD_BYTES, MetricsServer
from tests.metrics.scraping import GET, ask, labels, scrape
from tests.router.clusters import until

THINGS: Metric[float] = Metric("radixroute_things", Kind.GAUGE, "Things", one)
ODD = 'quote " backslash \\ line\nend'


@asynccontextmanager
async def page(*parts):
    server = MetricsServer(*parts)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop()


def outcome(seen, name):
    return seen["radixroute_scrapes_total", labels(outcome=name)]


async def test_a_scrape_shows_what_there_is_at_that_moment():
    now = iter(range(5, 9))
    async with page(Part((THINGS,), lambda: next(now))) as (_, port):
        assert (await scrape(port))["radixroute_things", labels()] == 5
        seen = await scrape(port)
        assert seen["radixroute_things", labels()] == 7
        assert outcome(seen, "served") == 2
        assert seen["process_resident_memory_bytes", labels()] > 1e6


async def test_a_label_of_any_text_comes_through():
    named: Metric[None] = Metric(
        "radixroute_named", Kind.GAUGE, "Named", lambda _: [Sample(1, (ODD,))], labels=("tenant",)
    )
    async with page(Part((named,), lambda: None)) as (_, port):
        assert (await scrape(port))["radixroute_named", labels(tenant=ODD)] == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/x HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"x" * 5 * MAX_HEAD_BYTES, 431),
    ],
)
async def test_a_bad_request_is_told_so_and_counted(data, status):
    async with page() as (_, port):
        got, headers, body = await ask(port, data)
        assert got == status
        assert int(headers["content-length"]) == len(body.encode())
        assert outcome(await scrape(port), "refused") == 1


async def test_head_and_a_query_are_fine():
    async with page() as (_, port):
        status, headers, body = await ask(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert (status, body) == (200, "")
        assert int(headers["content-length"]) > 100
        status, _, _ = await ask(port, b"GET /metrics?name[]=x HTTP/1.1\r\n\r\n")
        assert status == 200


async def test_a_request_in_pieces_is_read_whole():
    async with page() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in GET:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


async def test_a_table_that_fails_costs_its_page_and_nothing_else(caplog):
    broken: Metric[None] = Metric(
        "radixroute_broken", Kind.GAUGE, "Broken", lambda _: [Sample(1, ("x",))]
    )
    async with page(Part((broken,), lambda: None)) as (_, port):
        for _ in range(2):
            status, _, body = await ask(port, GET)
            assert status == 500
            assert "radixroute_broken" not in body
        assert "radixroute_broken" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"GET /metr"])
async def test_a_client_that_says_nothing_more_is_given_up(monkeypatch, sent):
    monkeypatch.setattr(server_module, "CONNECTION_S", 0.05)
    async with page() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with _any_end():
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await until(lambda: not server._open)
        assert outcome(await scrape(port), "given_up") == 1


async def test_a_client_that_reads_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(server_module, "CONNECTION_S", 0.5)
    many: Metric[None] = Metric(
        "radixroute_many",
        Kind.GAUGE,
        "Many",
        lambda _: [Sample(n, (f"{n}" * 20_000,)) for n in range(200)],
        labels=("n",),
    )
    async with page(Part((many,), lambda: None)) as (server, port):
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.setblocking(False)
            await asyncio.get_running_loop().sock_connect(silent, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(silent, GET)
            await until(lambda: server._given_up == 1 and not server._open)
        assert server._served == 0


async def test_connections_are_bounded_and_room_comes_back():
    async with page() as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        await until(lambda: len(server._open) == MAX_CONNECTIONS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with _any_end():
            assert await reader.read() == b""
        writer.close()
        assert server._refused == 1
        for _, one_writer in idle:
            one_writer.close()
        await until(lambda: not server._open)
        assert outcome(await scrape(port), "given_up") == MAX_CONNECTIONS


async def test_stop_ends_open_connections_and_frees_the_port():
    async with page() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(server._open) == 1)
        await server.stop()
        with _any_end():
            assert await reader.read() == b""
        writer.close()
        await server.stop()
        assert server._open == set()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_makes_way_for_a_free_one(caplog):
    async with page() as (_, taken):
        second = MetricsServer()
        port = await second.start("127.0.0.1", taken)
        try:
            assert port not in (0, taken)
            await scrape(port)
            assert f"127.0.0.1:{taken}" in caplog.text
        finally:
            await second.stop()


async def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError):  # noqa: PT011 - the system's own words
        await MetricsServer().start("192.0.2.1", 0)


async def test_a_loop_that_was_held_up_shows_it():
    """On a clock of its own: each look at it is 0.3 s after the one before."""
    now = iter(range(0, 10**12, 300_000_000))
    lag = LoopLag(lambda: next(now), lambda: False)
    lag.start()
    await until(lambda: sum(lag.spread.counts) >= 2)
    await lag.stop()
    late = dict(lag.spread.cumulative)
    assert late["0.1"] == 0
    assert late["0.25"] == late["+Inf"] >= 2


async def test_a_loop_that_nobody_waits_for_is_looked_at_less_often(monkeypatch):
    monkeypatch.setattr("radixroute.metrics.loop_lag.IDLE_PERIOD_S", 0.25)
    now = iter(range(0, 10**12, 300_000_000))
    lag = LoopLag(lambda: next(now), lambda: True)
    lag.start()
    await until(lambda: sum(lag.spread.counts) >= 1)
    await lag.stop()
    late = dict(lag.spread.cumulative)
    assert (late["0.025"], late["0.1"]) == (0, late["+Inf"])


def _any_end():
    """An end of the stream may also come as a reset."""
    return suppress(ConnectionError)
