"""Streams of an engine's own bytes that wait: a head and signs of life, between events alone."""

import asyncio
import json
import time
from typing import Any

from radixroute.router.api.http.stream_head import SIGN
from radixroute.router.counters import Count
from tests.engines.bodies import EVENT, JSON, STREAM, WITH_TOOLS
from tests.engines.fake_chats import Scripted
from tests.engines.fleets import Fleet, fleet
from tests.router.clusters import until
from tests.router.http.wire import CHATS, ask, connected, nobody_is_in

SOON = {"http_sign_s": 0.05}
DONE = b"data: [DONE]\n\n"


def n_early(made: Fleet) -> int:
    return made.counters[Count.HTTP_HEADS_EARLY.value]


async def test_one_that_waits_gets_its_head_and_still_goes_elsewhere_before_its_first_byte():
    fails = asyncio.Event()
    async with fleet("a", "b", router=SOON) as made, connected(made.router) as client:
        for engine in made.engines.values():
            engine.chats.scripted = [Scripted(waits=fails, is_cut=True)]
        client.post(CHATS, STREAM, "X-Request-Id: mine")
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
        assert "X-Request-Id: mine\r\n" in head
        assert "X-Radixroute-Worker" not in head
        assert n_early(made) == 1
        (first,) = [w for w, engine in made.engines.items() if engine.chats.bodies]
        other = "b" if first == "a" else "a"
        made.engines[other].chats.scripted = [Scripted(pieces=(EVENT, EVENT, DONE))]
        fails.set()
        body = await client._chunks()
        assert body.startswith(SIGN)
        assert f": X-Radixroute-Worker: {other}\n".encode() in body
        assert body.endswith(b"\n\n" + EVENT + EVENT + DONE)
        assert (await client.ask(CHATS, WITH_TOOLS)).status == 200, "the connection is kept"
        await until(lambda: nobody_is_in(made.router))


async def test_an_error_of_the_request_after_that_is_an_event():
    says = asyncio.Event()
    told = b'{"error": {"message": "too long",\n "code": 400}}'
    async with fleet("a", router=SOON) as made, connected(made.router) as client:
        made.engines["a"].chats.scripted = [Scripted(400, JSON, (told,), waits=says)]
        client.post(CHATS, STREAM)
        await client.reader.readuntil(SIGN + b"\r\n")
        says.set()
        lines = (await client._chunks()).decode().split("\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        assert json.loads("\n".join(data)) == json.loads(told)
        assert nobody_is_in(made.router)


async def test_a_long_answer_that_is_no_stream_after_that_is_an_error_of_ours():
    says = asyncio.Event()
    async with fleet("a", router=SOON) as made, connected(made.router) as client:
        made.engines["a"].chats.scripted = [Scripted(200, JSON, (b"x" * 1_000_000,), waits=says)]
        client.post(CHATS, STREAM)
        await client.reader.readuntil(SIGN + b"\r\n")
        says.set()
        body = await client._chunks()
        assert b"is no stream" in body
        assert body.endswith(DONE)
        assert len(body) < 2000
        await until(lambda: nobody_is_in(made.router))


async def test_one_that_does_not_wait_is_as_it_came_and_an_error_has_its_status():
    async with fleet("a", router={"http_sign_s": 60.0}) as made:
        chats = made.engines["a"].chats
        told = await ask(made.router, CHATS, STREAM)
        assert told.body == bytes(chats.streams[-1].sent)
        assert told.headers["x-radixroute-worker"] == "a"
        assert told.headers["x-accel-buffering"] == "no"
        chats.scripted = [Scripted(400, JSON, (b'{"error":{}}',))]
        told = await ask(made.router, CHATS, STREAM)
        assert (told.status, told.body) == (400, b'{"error":{}}')
        assert n_early(made) == 0


async def test_silence_is_broken_between_events_and_never_in_one():
    goes_on = asyncio.Event()
    torn, rest = EVENT[:20], EVENT[20:]
    async with fleet("a", router=SOON) as made, connected(made.router) as client:
        chats = made.engines["a"].chats
        chats.scripted = [Scripted(pieces=(EVENT, DONE), waits=goes_on)]
        client.post(CHATS, STREAM)
        await client.reader.readuntil(EVENT + b"\r\n")
        await client.reader.readuntil(SIGN + b"\r\n")
        goes_on.set()
        assert (await client._chunks()).replace(SIGN, b"") == DONE
        goes_on.clear()
        chats.scripted = [Scripted(pieces=(EVENT + torn, rest + DONE), waits=goes_on)]
        client.post(CHATS, STREAM)
        await client.reader.readuntil(torn + b"\r\n")
        (request,) = made.state.requests
        sink: Any = made.router.runtime._sinks[request.request_id]
        for later_s in (100.0, 200.0, 300.0):  # several signs would have been due
            sink._completion.look(time.monotonic() + later_s)
        goes_on.set()
        assert await client._chunks() == rest + DONE
        assert n_early(made) == 0


async def test_an_answer_that_comes_whole_has_its_status_however_long_it_takes():
    says = asyncio.Event()
    async with fleet("a", router=SOON) as made, connected(made.router) as client:
        made.engines["a"].chats.scripted = [Scripted(400, JSON, (b"{}",), waits=says)]
        client.post(CHATS, WITH_TOOLS)
        await until(lambda: bool(made.engines["a"].chats.bodies))
        await asyncio.sleep(0.15)
        says.set()
        assert (await client.answer()).status == 400
        assert n_early(made) == 0
