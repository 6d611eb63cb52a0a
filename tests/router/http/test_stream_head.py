"""Streams that wait: their head goes out after a while, and signs of life with it; errors before
that have their status, errors after it are events."""

import asyncio
import json
from typing import Any, cast

import openai
import pytest

from radixroute.router.api.http.answers import Streamed
from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.api.http.probabilities import Probabilities
from radixroute.router.api.http.request_reader import Incoming
from radixroute.router.api.http.stream_head import SIGN, StreamHead
from radixroute.router.api.http.wording import Wording
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Emit
from radixroute.router.messages.inputs import PackedTokens
from tests.router.clusters import until
from tests.router.fakes import FakeWorker, answer, text_of
from tests.router.http.test_openai_client import client_of
from tests.router.http.wire import (
    CHATS,
    COMPLETIONS,
    IDS,
    MESSAGES,
    ask,
    chatting,
    connected,
    nobody_is_in,
)

SOON = {"http_sign_s": 0.05}
STREAM = {"prompt": IDS, "max_tokens": 5, "stream": True}


async def until_early(service, n: int = 1) -> None:
    counters = service.runtime.core._state.counters
    await until(lambda: counters[Count.HTTP_HEADS_EARLY] >= n)


def split(body: bytes) -> tuple[list[str], list[Any], bool]:
    """Comments, events, and whether it says that it is done."""
    comments, events, is_done = [], [], False
    for line in body.decode().split("\n"):
        if line.startswith(":"):
            comments.append(line[1:].strip())
        elif line == "data: [DONE]":
            is_done = True
        elif line:
            events.append(json.loads(line.removeprefix("data: ")))
    return comments, events, is_done


async def test_a_stream_that_waits_gets_its_head_and_signs_of_life():
    worker = FakeWorker("a")
    async with chatting(worker, **SOON) as service, connected(service) as client:
        worker.never_prefill = True
        client.post(COMPLETIONS, STREAM, "X-Request-Id: mine")
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "X-Request-Id: mine\r\n" in head
        assert "X-Radixroute-Worker" not in head
        for _ in range(3):
            assert await client.reader.readuntil(b"\n\n\r\n") == b"b\r\n" + SIGN + b"\r\n"
        assert service.runtime.core._state.counters[Count.HTTP_HEADS_EARLY] == 1
        worker.never_prefill = False
        comments, events, is_done = split(await client._chunks())
        told = [one for one in comments if one != "waiting"]
        assert told == [
            "X-Radixroute-Worker: a",
            "X-Radixroute-Predicted-Tokens: 0",
            "X-Radixroute-Cached-Tokens: 0",
        ]
        assert "".join(one["choices"][0]["text"] for one in events) == text_of(answer(IDS, 5))
        assert is_done
        # The connection is as good as before.
        assert (await client.ask(COMPLETIONS, STREAM)).status == 200
    assert nobody_is_in(service)


async def test_a_stream_that_does_not_wait_has_all_in_its_head():
    async with chatting(http_sign_s=60.0) as service:
        got = await ask(service, COMPLETIONS, STREAM)
        assert got.headers["x-radixroute-worker"] == "a"
        assert got.headers["x-accel-buffering"] == "no"
        assert b"\n:" not in got.body
        assert service.runtime.core._state.counters[Count.HTTP_HEADS_EARLY] == 0


async def test_silence_between_tokens_is_broken_too():
    worker = FakeWorker("a", hold_after=2)
    async with chatting(worker, **SOON) as service, connected(service) as client:
        client.post(COMPLETIONS, STREAM)
        await client.reader.readuntil(SIGN)
        await client.reader.readuntil(SIGN)
        # It began in time: with its worker in the head, and no early one.
        assert service.runtime.core._state.counters[Count.HTTP_HEADS_EARLY] == 0


async def test_an_error_before_it_has_its_status():
    waits = {"no_worker_wait_s": 0.1, "http_sign_s": 30.0}
    async with chatting(**waits) as service:
        service.set_members([])
        got = await ask(service, COMPLETIONS, STREAM)
        assert got.status == 503
        assert int(got.headers["retry-after"]) >= 1
        got = await ask(service, COMPLETIONS, {**STREAM, "temperature": -1})
        assert got.status == 400


async def test_an_error_after_it_is_an_event():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, request_timeout_s=1.0, **SOON) as service:
        got = await ask(service, COMPLETIONS, STREAM)
        assert got.status == 200
        _, events, is_done = split(got.body)
        assert [one["error"]["code"] for one in events] == ["deadline_exceeded"]
        assert is_done
        await until(lambda: nobody_is_in(service))


async def test_a_whole_answer_has_its_status_however_long_it_takes():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, request_timeout_s=0.6, **SOON) as service:
        assert (await ask(service, COMPLETIONS, {"prompt": IDS})).status == 504


async def test_it_may_be_switched_off():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, request_timeout_s=0.6, http_sign_s=0.0) as service:
        assert (await ask(service, COMPLETIONS, STREAM)).status == 504


async def test_old_clients_get_it_without_chunks():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, request_timeout_s=1.0, **SOON) as service:
        async with connected(service) as client:
            data = json.dumps(STREAM).encode()
            client.send(
                b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(data) + data
            )
            got = await client.answer()
        assert got.headers["connection"] == "close"
        assert got.body.startswith(SIGN)
        assert split(got.body)[1][0]["error"]["code"] == "deadline_exceeded"


async def test_a_client_that_leaves_while_it_waits_leaves_nothing():
    worker = FakeWorker("a", never_prefill=True)
    async with chatting(worker, **SOON) as service:
        async with connected(service) as client:
            client.post(CHATS, {"messages": MESSAGES, "stream": True, "n": 3})
            await client.reader.readuntil(SIGN)
        await until(lambda: nobody_is_in(service) and not worker.live)
        service.runtime.core.check()


async def test_the_openai_client_reads_on():
    worker = FakeWorker("a")
    async with chatting(worker, **SOON) as service, client_of(service) as client:
        worker.never_prefill = True
        asking = asyncio.ensure_future(
            client.completions.create(model="tiny", prompt=IDS, max_tokens=5, stream=True)
        )
        stream = await asking  # its head is there
        assert service.runtime.core._state.counters[Count.HTTP_HEADS_EARLY] == 1
        worker.never_prefill = False
        text = "".join([event.choices[0].text async for event in stream])
        assert text == text_of(answer(IDS, 5))


async def test_the_openai_client_raises_an_error_that_comes_late():
    worker = FakeWorker("a", never_prefill=True)
    async with (
        chatting(worker, request_timeout_s=1.0, **SOON) as service,
        client_of(service, max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, max_tokens=5, stream=True
        )
        with pytest.raises(openai.APIError, match="deadline"):
            async for _ in stream:
                pass


class Written(HttpConnection):
    """A connection of which only what is written matters."""

    def __init__(self) -> None:
        self.got = b""
        self.is_paused = False
        self.incoming = Incoming()

    def write(self, data: bytes) -> None:
        self.got += data


def test_signs_come_when_they_are_due_and_not_before():
    connection = Written()
    head = StreamHead(connection, (), sign_s=10.0, now_s=100.0)
    assert [head.look(now) for now in (105.0, 109.9)] == [False, False]
    assert connection.got == b""
    assert head.look(110.0)
    assert connection.got.count(SIGN) == 1
    assert not head.look(119.9)
    assert not head.look(120.0)  # a sign, but the head is out
    assert connection.got.count(SIGN) == 2
    head.tell(b"data: x\n\n")
    assert not head.look(129.0)
    head.look(138.9)
    assert connection.got.count(SIGN) == 2
    head.look(139.0)
    assert connection.got.count(SIGN) == 3
    connection.is_paused = True  # what it does not take now, it would not take with a sign
    head.look(200.0)
    assert connection.got.count(SIGN) == 3


TEXTS = ["a", " b", '"\\\n', "\u20ac\U0001f600\x07\x7f\u2028", "", "x" * 300, " b"]


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("tells_usage", [False, True])
@pytest.mark.parametrize("is_chat", [False, True])
def test_text_that_flows_is_written_as_any_event_is(is_chat, tells_usage, is_old):
    wording = Wording("id", 'a "model"', 7, is_chat=is_chat, tells_usage=tells_usage)
    connections = [Written(), Written()]
    streams = list[Streamed]()
    for connection in connections:
        connection.incoming.is_old = is_old
        head = StreamHead(connection, (), sign_s=10.0, now_s=100.0)
        told: Any = None  # nobody asked for log probabilities
        streams.append(Streamed(connection, head, wording, told, 2))
        streams[-1].begin(())
        streams[-1].put(0, emit("first"))
    flow = streams[1].flow(1)
    for text in TEXTS:
        streams[0].put(1, emit(text))
        assert flow.tell(text)
    assert connections[0].got == connections[1].got
    connections[1].is_paused = True
    assert not flow.tell("more")
    assert connections[0].got == connections[1].got


def emit(text: str) -> Emit:
    return Emit("r", 0, PackedTokens(b"abcd"), text, None, None)


def test_what_a_slow_client_left_comes_before_what_flows():
    wording = Wording("id", "m", 7, is_chat=False, tells_usage=False)
    connection, told = Written(), Probabilities(cast(Any, None), is_chat=False)
    streamed = Streamed(
        connection, StreamHead(connection, (), sign_s=0, now_s=0.0), wording, told, 1
    )
    streamed.begin(())
    flow = streamed.flow(0)
    for number, is_paused in enumerate((False, True, True, False, False)):
        if connection.is_paused and not is_paused:
            connection.is_paused = False
            streamed.resumed()
        connection.is_paused = is_paused
        if not flow.tell(f"{number}"):
            streamed.put(0, emit(f"{number}"))
    texts = [json.loads(line[6:])["choices"][0]["text"] for line in lines_of(connection)]
    assert texts == ["0", "12", "3", "4"]


def lines_of(connection: Written) -> list[bytes]:
    return [one for one in connection.got.split(b"\n") if one.startswith(b"data: ")]
