"""Verbatim requests whose engines fail, and whose clients leave or read slowly."""

import asyncio
import json
from typing import Any

import pytest

from radixroute.request.verbatim.records import WINDOW_BYTES
from tests.engines.bodies import CANARY, EVENT, JSON, STREAM, WITH_TOOLS
from tests.engines.fake_chats import Scripted
from tests.engines.fleets import fleet
from tests.router.clusters import until
from tests.router.http.wire import CHATS, ask, connected, nobody_is_in

READ_BYTES = 256 * 1024  # what a transport reads at once
BROKEN = b'{"error": {"message": "EngineCore", "code": 500}}'


@pytest.mark.parametrize(
    "fault",
    [
        Scripted(status=503),
        Scripted(status=429),
        Scripted(status=401, pieces=(b"{}",), content_type=JSON),
        Scripted(status=500, pieces=(BROKEN,), content_type=JSON),
        Scripted(pieces=(b"data: " + BROKEN + b"\n\n", b"data: [DONE]\n\n")),
        Scripted(pieces=(b": hello\n\ndata: {", b""), is_cut=True),
        Scripted(pieces=(BROKEN,), content_type=JSON),
        Scripted(pieces=(b'{"choices":', b""), content_type=JSON, is_cut=True),
    ],
    ids=lambda fault: f"{fault.status}-{fault.content_type[:6]}-{fault.is_cut}",
)
async def test_before_its_first_byte_a_request_goes_elsewhere(fault):
    async with fleet("a", "b") as made:
        script = [fault]  # whoever is asked first has it
        for engine in made.engines.values():
            engine.chats.scripted = script
        told = await ask(made.router, CHATS, STREAM)
        assert told.status == 200
        assert told.events
        asked = [engine.chats.bodies for engine in made.engines.values()]
        assert [len(bodies) for bodies in asked] == [1, 1]
        assert asked[0] == asked[1]
        answer = next(e.chats.streams[-1] for e in made.engines.values() if e.in_flight == 0)
        assert told.body in [bytes(e.chats.streams[-1].sent) for e in made.engines.values()]
        assert answer
        assert made.counters["breakers_opened"] == made.counters["requests_failed"] == 0
        assert nobody_is_in(made.router)


async def test_an_engine_killed_before_the_first_byte_costs_nothing():
    async with fleet("a", "b") as made:
        for engine in made.engines.values():
            engine.is_held = True
        asking = asyncio.create_task(ask(made.router, CHATS, STREAM))
        await until(lambda: any(engine.in_flight for engine in made.engines.values()))
        victim = next(name for name, engine in made.engines.items() if engine.in_flight)
        other = made.engines["b" if victim == "a" else "a"]
        other.is_held = False
        await made.engines[victim].kill()
        told = await asking
        assert told.status == 200
        assert told.body == bytes(other.chats.streams[-1].sent)
        assert made.counters["requests_resumed"] == 1


async def test_after_its_first_byte_an_answer_ends_with_an_error_and_is_not_tried_again():
    async with fleet("a", "b") as made:
        script = [Scripted(pieces=(EVENT, b'data: {"cho', b""), is_cut=True)]
        for engine in made.engines.values():
            engine.chats.scripted = script
        told = await ask(made.router, CHATS, STREAM)
        assert told.status == 200
        assert told.body.startswith(EVENT)
        *_, error, done, end = told.body.split(b"\n\n")
        assert json.loads(error.removeprefix(b"data: "))["error"]["type"] == "api_error"
        assert (done, end) == (b"data: [DONE]", b"")
        assert sum(len(engine.chats.bodies) for engine in made.engines.values()) == 1
        assert made.counters["requests_not_resumable"] == 1
        assert made.counters["requests_resumed"] == 0
        assert nobody_is_in(made.router)


async def test_of_a_whole_answer_that_was_cut_off_only_its_end_tells():
    async with fleet("a") as made:
        made.engines["a"].chats.scripted = [
            Scripted(content_type=JSON, pieces=(b"[" + b"1," * 200_000, b"1"), is_cut=True)
        ]
        async with connected(made.router) as client:
            client.post(CHATS, WITH_TOOLS)
            with pytest.raises((ValueError, asyncio.IncompleteReadError, ConnectionError)):
                await client.answer()
        await until(lambda: nobody_is_in(made.router))
        assert made.counters["requests_not_resumable"] == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_an_engine_says_is_wrong_with_a_request_is_told_as_it_says_it(status):
    async with fleet("a", "b") as made:
        said = b'{ "error":{"message":"no such thing","code":%d} }' % status
        for engine in made.engines.values():
            engine.chats.scripted = [Scripted(status, "application/problem+json", (said,))]
        told = await ask(made.router, CHATS, STREAM)
        assert (told.status, told.body) == (status, said)
        assert told.headers["content-type"] == "application/problem+json"
        assert sum(len(engine.chats.bodies) for engine in made.engines.values()) == 1
        assert made.counters["breakers_opened"] == made.counters["requests_retried"] == 0


async def test_engines_that_all_fail_leave_an_error_of_ours():
    async with fleet("a", "b") as made:
        for engine in made.engines.values():
            engine.chats.scripted = [Scripted(500, JSON, (CANARY.encode(),))] * 3
        told = await ask(made.router, CHATS, STREAM)
        assert told.status == 500
        assert told.json["error"]["type"] == "api_error"
        assert CANARY not in told.body.decode()


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_client_that_leaves_frees_its_request_in_the_engine(is_stream):
    async with fleet("a", step_s=0.01) as made:
        engine = made.engines["a"]
        async with connected(made.router) as client:
            client.post(CHATS, {**WITH_TOOLS, "stream": is_stream, "max_tokens": 500})
            await until(lambda: engine.n_steps > 3)
        await until(lambda: engine.n_aborted == 1 and not engine.in_flight)
        await until(lambda: nobody_is_in(made.router) and not made.workers["a"].in_flight)


async def test_a_client_that_reads_slowly_holds_a_window_and_no_more():
    event = b"data: " + b"x" * 32_000 + b"\n\n"
    async with fleet("a") as made:
        engine = made.engines["a"]
        engine.chats.scripted = [Scripted(pieces=(event,) * 800)]
        async with connected(made.router, limit=1024) as client:
            client.post(CHATS, STREAM)
            companion: Any = made.workers["a"]._engine
            await until(lambda: any(call.relaying.is_paused for call in companion._hearing.calls))
            (call,) = companion._hearing.calls
            assert not call.exchange._exchange.connection._transport.is_reading()
            (stream,) = engine.chats.streams
            # Sockets hold what the system lets them.
            assert len(stream.sent) < len(event) * 800 // 2
            # Its engine is not thought to stand still.
            assert not companion._hearing.calls.busy_ranks
            (request,) = made.state.requests
            sink: Any = made.router.runtime._sinks[request.request_id]
            answers: Any = sink._completion._answers

            def held() -> int:
                """What a socket did not take, and what was written before that showed."""
                written: int = answers._connection._transport.get_write_buffer_size()
                return written + sum(map(len, answers._held))

            await until(lambda: held() > WINDOW_BYTES // 2)
            heads = 8 * 1024  # of the answer and of each of its chunks
            assert held() <= WINDOW_BYTES + READ_BYTES + heads
            told = await client.answer()
        assert told.body == event * 800 == bytes(stream.sent)
        assert nobody_is_in(made.router)
