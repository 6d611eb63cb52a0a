"""Requests that only an engine understands: as they came to it, and its answers as they are."""

import asyncio
import json
import logging
from typing import Any

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.request.verbatim import WINDOW_BYTES
from radixroute.router.counters import Count
from tests.engines.fake_chats import Scripted
from tests.engines.fleets import Fleet, expected, fleet
from tests.router.clusters import collect, until
from tests.router.http.wire import (
    CHATS,
    COMPLETIONS,
    ask,
    chatting,
    connected,
    nobody_is_in,
    post_bytes,
)

READ_BYTES = 256 * 1024  # what a transport reads at once
CANARY = "a-canary-that-nobody-may-repeat"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES = [{"role": "user", "content": "how is the weather in Rome"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBOR" * 100}}
CHAT: dict[str, Any] = {"model": "fake-model", "messages": MESSAGES, "max_tokens": 6}
WITH_TOOLS = {**CHAT, "tools": [TOOL], "tool_choice": "auto"}
# Spaces and an order that nobody would make again.
RAW = (
    b'{"tools" :[%s],\n "max_tokens":5, "messages":  [{"role":"user", "content":"caf\\u00e9 %s"}],'
    b' "seed":1e0, "n":1 }'
) % (json.dumps(TOOL).encode(), CANARY.encode())


def counted(made: Fleet, name: Count) -> int:
    return made.counters[name.value]


def arguments_of(events: list[Any]) -> str:
    calls = [one["choices"][0]["delta"]["tool_calls"][0] for one in events if one["choices"]]
    return "".join(call["function"]["arguments"] for call in calls)


async def test_a_call_of_a_tool_whole_and_streamed():
    async with fleet("a") as made:
        engine = made.engines["a"]
        whole = await ask(made.router, CHATS, WITH_TOOLS, "X-Request-Id: mine")
        assert whole.status == 200
        choice = whole.json["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        call = choice["message"]["tool_calls"][0]["function"]
        prompt = engine.chats.prompt_of(WITH_TOOLS)
        answer = "".join(f" {token}" for token in expected(prompt, 6))
        assert call == {"name": "weather", "arguments": answer}
        assert whole.headers["x-request-id"] == "mine"
        assert whole.headers["x-radixroute-worker"] == "a"
        assert whole.headers["x-radixroute-predicted-tokens"] == "0"
        assert whole.headers["x-radixroute-cached-tokens"] == "0"
        streamed = await ask(made.router, CHATS, {**WITH_TOOLS, "stream": True})
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert streamed.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
        assert arguments_of(streamed.events) == " " + " ".join(answer.split()[1:])
        assert "x-radixroute-cached-tokens" not in streamed.headers  # it comes at the end
        assert counted(made, Count.VERBATIM) == counted(made, Count.VERBATIM_UNREAD) == 2
        assert nobody_is_in(made.router)


async def test_not_a_byte_of_body_or_answer_is_changed():
    async with fleet("a") as made:
        chats = made.engines["a"].chats
        for stream in (b"false", b"true"):
            body = RAW[:-1] + b',"stream":' + stream + b"}"
            told = await ask(made.router, CHATS, body)
            assert chats.bodies[-1] == body
            assert told.status == 200
            assert told.body == bytes(chats.streams[-1].sent)
        assert told.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHATS, {"response_format": {"type": "json_object"}}),
        (CHATS, {"messages": [{"role": "user", "content": [PICTURE]}]}),
        (CHATS, {"messages": [*MESSAGES, {"role": "tool", "tool_call_id": "1", "content": "x"}]}),
        (CHATS, {"a_field_of_tomorrow": {"deep": [1, None]}}),
        (CHATS, {"prompt_logprobs": 2}),
        (CHATS, {"stream": True, "stream_options": {"continuous_usage_stats": True}}),
        (COMPLETIONS, {"structured_outputs": {"regex": "a+"}}),
        (COMPLETIONS, {"echo": True, "prompt": ["a", "b"]}),
        (COMPLETIONS, {"prompt_embeds": "AAAA", "prompt": None}),
    ],
)
async def test_whatever_is_not_spoken_here_goes_there(path, more):
    body = {**(CHAT if path == CHATS else {"prompt": "hello", "max_tokens": 3}), **more}
    async with fleet("a") as made:
        chats = made.engines["a"].chats
        told = await ask(made.router, path, body)
        assert told.status == 200, told.body
        assert json.loads(chats.bodies[0]) == body
        assert told.body == bytes(chats.streams[0].sent)


async def test_what_reaches_into_an_engine_is_dropped_and_ours_is_set():
    """The salt is the one that the token path sends."""
    bad = {
        "cache_salt": "theirs", "priority": -9, "kv_transfer_params": {"x": 1}, "request_id": "r",
        "vllm_xargs": {"kv_cache_report_mode": "full"}, "bootstrap_room": 1, "rid": "r",
    }  # fmt: skip
    async with fleet("a") as made:
        engine = made.engines["a"]
        headers = ("X-data-parallel-rank: 1", "X-Session-ID: s", "X-Vllm-Priority: 0")
        told = await ask(made.router, CHATS, {**WITH_TOOLS, **bad}, *headers)
        assert told.status == 200
        assert json.loads(engine.chats.bodies[0]) == WITH_TOOLS
        assert counted(made, Count.FIELDS_DROPPED) == len(bad)
        (seen,) = engine.chats.headers
        assert sorted(seen) == ["accept", "content-length", "content-type", "host", "x-request-id"]
        assert seen["x-request-id"] not in ("mine", told.headers["x-request-id"])


async def test_a_salt_that_clients_may_set_is_a_digest_there():
    async with fleet("a", router={"http_client_fields": "cache_salt,priority"}) as made:
        engine = made.engines["a"]
        salted = {"cache_salt": "theirs", "priority": 2}
        await ask(made.router, CHATS, {**WITH_TOOLS, **salted})
        plain = {"prompt": list(range(1, 20)), "max_tokens": 2, **salted}
        assert (await ask(made.router, COMPLETIONS, plain)).status == 200
        there = json.loads(engine.chats.bodies[0])
        assert there == {**WITH_TOOLS, "cache_salt": engine.received[-1]["cache_salt"]}
        assert "theirs" not in there["cache_salt"]


async def test_an_adapter_is_a_model_of_its_own_name():
    async with fleet("a", adapters=("lora-1",)) as made:
        assert (await ask(made.router, CHATS, {**WITH_TOOLS, "model": "lora-1"})).status == 200
        assert json.loads(made.engines["a"].chats.bodies[0])["model"] == "lora-1"
        told = await ask(made.router, CHATS, {**WITH_TOOLS, "model": "other"})
        assert told.status == 404
        assert told.json["error"]["code"] == "model_not_found"
        assert len(made.engines["a"].chats.bodies) == 1


async def test_a_prompt_that_can_be_read_here_goes_where_its_prefix_is():
    """The rest is not spoken here; predicted and told agree, so the audit has it."""
    prompt = list(range(1, 42))
    body = {"prompt": prompt, "max_tokens": 2, "structured_outputs": {"regex": "a+"}}
    async with fleet("a", "b") as made:
        for engine in made.engines.values():
            engine.chats.takes_ids = True
        first = await ask(made.router, COMPLETIONS, body)
        await until(made.is_told)
        for _ in range(4):
            again = await ask(made.router, COMPLETIONS, body)
            assert again.headers["x-radixroute-worker"] == first.headers["x-radixroute-worker"]
            assert again.headers["x-radixroute-predicted-tokens"] == "40"
            assert again.headers["x-radixroute-cached-tokens"] == "40"
        assert counted(made, Count.VERBATIM_UNREAD) == 0
        await until(lambda: counted(made, Count.REPORTS_AUDITED) == 5)
        assert counted(made, Count.AUDIT_TOLD_LESS) == counted(made, Count.AUDIT_TOLD_MORE) == 0


async def test_what_nobody_here_has_read_is_told_and_not_audited():
    async with fleet("a") as made:
        for _ in range(2):
            await ask(made.router, CHATS, WITH_TOOLS)
        told = await ask(made.router, CHATS, WITH_TOOLS)
        cached = int(told.headers["x-radixroute-cached-tokens"])
        assert cached == told.json["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        assert counted(made, Count.REPORTS_AUDITED) == 0
        assert counted(made, Count.REPORTS_UNAUDITED) == 3
        hits = made.router.runtime.core.snapshot().hits[WorkerId("a")]
        assert hits.requests == 3
        assert hits.cached_tokens == 2 * cached
        options = {"stream": True, "stream_options": {"include_usage": True}}
        streamed = await ask(made.router, CHATS, {**WITH_TOOLS, **options})
        assert streamed.events[-1]["usage"]["completion_tokens"] == 6
        await until(lambda: counted(made, Count.REPORTS_UNAUDITED) == 4)
        logged = made.router.runtime.core.logged(streamed.headers["x-radixroute-request-id"])
        assert logged.cached_tokens == cached


STREAM = {**WITH_TOOLS, "stream": True}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
BROKEN = b'{"error": {"message": "EngineCore", "code": 500}}'
JSON = "application/json"


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
            await until(lambda: any(call.relaying.is_paused for call in companion._calls))
            (stream,) = engine.chats.streams
            # Sockets hold what the system lets them.
            assert len(stream.sent) < len(event) * 800 // 2
            assert not companion._calls.n_awaited  # its engine is not thought to stand still
            (request,) = made.state.requests
            sink: Any = made.router.runtime._sinks[request.request_id]
            await until(lambda: sink._completion._answers._n_held > WINDOW_BYTES // 2)
            assert sink._completion._answers._n_held <= WINDOW_BYTES + READ_BYTES
            told = await client.answer()
        assert told.body == event * 800 == bytes(stream.sent)
        assert nobody_is_in(made.router)


async def test_a_big_body_arrives_whole_and_a_bigger_one_is_not_read():
    async with fleet("a", router={"max_message_bytes": 4 << 20}) as made:
        big = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iV" * 10**6}}
        body = {**CHAT, "messages": [{"role": "user", "content": [big]}]}
        engine = made.engines["a"]
        engine.chats.scripted = [Scripted(pieces=(EVENT,))]
        async with connected(made.router) as client:
            client.post(CHATS, body)
            assert (await client.answer()).body == EVENT
        assert engine.chats.bodies[0] == json.dumps(body).encode()
        async with connected(made.router) as client:
            client.send(f"POST {CHATS} HTTP/1.1\r\nContent-Length: {5 << 20}\r\n\r\n".encode())
            assert (await client.answer()).status == 413


async def test_a_request_waits_for_its_seat_like_any_other():
    async with fleet("a", companion={"max_num_seqs": 1}, step_s=0.01) as made:
        first = asyncio.create_task(collect(made.ask(list(range(1, 20)), 30)))
        engine = made.engines["a"]
        await until(lambda: engine.running == 1)
        second = asyncio.create_task(ask(made.router, CHATS, STREAM))
        await until(lambda: len(made.state.waiting) == 1)
        assert not engine.chats.bodies
        await first
        assert (await second).status == 200
        assert made.counters["requests_waited_for_a_worker"] == 1


async def test_a_deadline_ends_it_there_too():
    async with fleet("a", router={"request_timeout_s": 0.5}) as made:
        made.engines["a"].is_held = True
        told = await ask(made.router, CHATS, STREAM)
        assert told.status == 504
        await until(lambda: not made.engines["a"].in_flight)


async def test_of_a_mixed_fleet_only_engines_that_understand_it_are_asked():
    same = {"fingerprint": "fa4e", "kv_dtype": "float32"}
    async with fleet("a", companion=same) as made:
        await made.join_ours("own")
        for _ in range(6):
            told = await ask(made.router, CHATS, WITH_TOOLS)
            assert told.headers["x-radixroute-worker"] == "a"
        ours = told.headers["x-radixroute-request-id"]
        decision = made.router.runtime.core.logged(ours).decisions[-1]
        (left_out,) = decision.view.excluded
        assert (left_out.worker_id, left_out.because) == (
            "own",
            "it takes no requests as clients wrote them",
        )


async def test_engines_of_ours_alone_refuse_it_by_name():
    async with chatting() as service:
        told = await ask(service, CHATS, {"messages": MESSAGES, "tools": [TOOL]})
        assert told.status == 400
        assert told.json["error"]["param"] == "tools"
        told = await ask(service, CHATS, {"messages": [{"role": "user", "content": [PICTURE]}]})
        assert told.status == 400
        assert told.json["error"]["param"] == "messages"
        assert nobody_is_in(service)


async def test_no_log_has_a_word_of_it(caplog):
    caplog.set_level(logging.DEBUG)
    said = CANARY.encode()
    async with fleet("a", "b") as made:
        scripts = [
            Scripted(500, JSON, (said,)),
            Scripted(400, JSON, (said,)),
            Scripted(pieces=(b"data: " + said + b"\n\n", b""), is_cut=True),
        ]
        for engine in made.engines.values():
            engine.chats.scripted = scripts
        while scripts:
            async with connected(made.router) as client:
                client.send(post_bytes(CHATS, RAW))
                await client.answer()
    assert CANARY not in caplog.text
