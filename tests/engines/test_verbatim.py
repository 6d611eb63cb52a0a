"""Requests that only an engine understands: as they came to it, and its answers as they are."""

import asyncio
import json
import logging
from typing import Any

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.counters import Count
from radixroute.worker.api.describe import describe
from tests.engines.bodies import (
    CANARY,
    CHAT,
    EVENT,
    JSON,
    MESSAGES,
    PICTURE,
    RAW,
    STREAM,
    TOOL,
    WITH_TOOLS,
)
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
        async with connected(made.router) as client:  # one connection for all
            for stream in (b"false", b"true", b"false"):
                body = RAW[:-1] + b',"stream":' + stream + b"}"
                told = await client.ask(CHATS, body)
                assert chats.bodies[-1] == body
                assert told.status == 200
                assert told.body == bytes(chats.streams[-1].sent)
                is_stream = told.body.endswith(b"data: [DONE]\n\n")
                assert is_stream is (stream == b"true") is ("content-length" not in told.headers)


async def test_it_travels_over_grpc_sessions_too(monkeypatch):
    def without_frames(*told: Any) -> Any:
        message = describe(*told)
        message.session_endpoint = ""
        return message

    monkeypatch.setattr("radixroute.worker.service.describe", without_frames)
    big = {**STREAM, "messages": [{"role": "user", "content": [PICTURE] * 2000}]}
    async with fleet("a") as made:
        chats = made.engines["a"].chats
        for body in (STREAM, WITH_TOOLS, big):
            chats.scripted = [Scripted(pieces=(EVENT,) * 3)] if body is big else []
            told = await ask(made.router, CHATS, body)
            assert told.status == 200
            assert chats.bodies[-1] == json.dumps(body).encode()
            assert told.body == bytes(chats.streams[-1].sent)


async def test_clients_that_know_no_chunks_get_it_to_the_end_of_their_connection():
    async with fleet("a") as made, connected(made.router) as client:
        head = f"POST {CHATS} HTTP/1.0\r\nHost: x\r\n"
        data = json.dumps(STREAM).encode()
        client.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        told = await client.answer()
        assert "transfer-encoding" not in told.headers
        assert told.body == bytes(made.engines["a"].chats.streams[0].sent)


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
        headers = (
            *("X-data-parallel-rank: 1", "X-Session-ID: s", "X-Vllm-Priority: 0"),
            "X-Session-Last: 2",
        )
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
        await until(made.is_followed)
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


@pytest.mark.parametrize("way", ["/render", "/tokenize"])
async def test_a_prompt_that_only_an_engine_can_read_goes_where_its_prefix_is(way):
    """An engine tells its tokens, so it is predicted and audited like any."""
    system = [{"role": "system", "content": "a long rule " * 20}]
    async with fleet("a", "b", "c") as made:
        for engine in made.engines.values():
            engine.chats.renders = way
        await until(made.is_followed)
        first = await ask(made.router, CHATS, {**WITH_TOOLS, "messages": [*system, *MESSAGES]})
        for number in range(6):
            await until(made.is_told)
            turn = [*system, *MESSAGES, {"role": "user", "content": f"and {number}"}]
            again = await ask(made.router, CHATS, {**STREAM, "messages": turn})
            assert again.headers["x-radixroute-worker"] == first.headers["x-radixroute-worker"]
            assert int(again.headers["x-radixroute-predicted-tokens"]) > 200
        options = {"stream_options": {"include_usage": True}}
        told = await ask(made.router, CHATS, {**STREAM, "messages": turn, **options})
        usage = told.events[-1]["usage"]
        predicted = told.headers["x-radixroute-predicted-tokens"]
        assert int(predicted) == usage["prompt_tokens_details"]["cached_tokens"]
        await until(lambda: counted(made, Count.REPORTS_AUDITED) == 2)
        assert counted(made, Count.AUDIT_TOLD_LESS) == counted(made, Count.AUDIT_TOLD_MORE) == 0
        assert counted(made, Count.VERBATIM_RENDERED) == counted(made, Count.VERBATIM) == 8
        (body, *_) = [body for one in made.engines.values() for body in one.chats.rendered]
        assert ("max_tokens" in json.loads(body)) is (way == "/render")
        picture = {**WITH_TOOLS, "messages": [{"role": "user", "content": [PICTURE]}]}
        assert (await ask(made.router, CHATS, picture)).status == 200
        assert counted(made, Count.VERBATIM_UNREAD) == 1


async def test_an_engine_that_does_not_tell_tokens_in_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("radixroute.router.runtime.RENDER_S", 0.05)
    async with fleet("a") as made:
        companion: Any = made.workers["a"]._engine
        companion.render = lambda *asked: None
        assert (await ask(made.router, CHATS, WITH_TOOLS)).status == 200
        assert counted(made, Count.VERBATIM_UNREAD) == 1
        assert not made.router.runtime._rendering


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
