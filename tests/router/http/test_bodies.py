"""Bodies: what clients may send, what they are told, and that both doors say the same."""

import json
import math
from typing import Any

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.request.errors import InvalidRequest
from radixroute.request.wire import pack_tokens
from radixroute.router.api.http.asked.bodies import read_body
from radixroute.router.api.http.asked.fields import STRIPPED
from radixroute.router.counters import Count
from radixroute.router.service import RouterService
from tests.router.clusters import until
from tests.router.fakes import FakeWorker, answer, text_of, told_at
from tests.router.http.wire import CHATS, COMPLETIONS, IDS, MESSAGES, ask, chatting, nobody_is_in

CANARY = "a-canary-that-nobody-may-repeat"


async def test_ids_text_and_chats_reach_the_worker_as_tokens():
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        by_ids = await ask(service, COMPLETIONS, {"prompt": IDS, "max_tokens": 4})
        assert by_ids.json["choices"][0]["text"] == text_of(answer(IDS, 4))
        await ask(service, COMPLETIONS, {"prompt": "hello world"})
        await ask(service, CHATS, {"messages": MESSAGES, "max_tokens": 2})
        tokenizer = worker.tokenizer
        texts = [
            tokenizer.decode(int.from_bytes(one.prompt_token_ids[i : i + 4], "little")
                             for i in range(0, len(one.prompt_token_ids), 4))
            for one in worker.seen[1:]
        ]  # fmt: skip
        assert texts[0] == "hello world"
        assert "hello world" in texts[1]
        assert "user" in texts[1]


async def test_lengths_and_sampling_nobody_asked_for_are_as_elsewhere():
    """16 tokens for a completion, all that fits for a chat, and what the model's makers want."""
    worker = FakeWorker("a", step_s=0.0001)
    async with chatting(worker) as service:
        first = await ask(service, COMPLETIONS, {"prompt": IDS})
        assert first.json["usage"]["completion_tokens"] == 16
        await ask(service, CHATS, {"messages": MESSAGES, "temperature": 0.25})
        silent, chat = (one.sampling for one in worker.seen)
        assert (silent.temperature, silent.top_k) == (0.5, 7)
        assert (chat.temperature, chat.top_k) == (0.25, 7)
        n_prompt = len(worker.seen[1].prompt_token_ids) // 4
        assert chat.max_tokens == 512 - n_prompt
    other = FakeWorker("a")
    async with chatting(other, generation_config="ours") as service:
        await ask(service, COMPLETIONS, {"prompt": IDS})
        assert (other.seen[0].sampling.temperature, other.seen[0].sampling.top_k) == (1.0, 0)


async def test_all_sampling_arrives():
    asked = {
        "temperature": 0.5, "top_p": 0.25, "top_k": -1, "min_p": 0.125, "seed": -2,
        "max_tokens": 3, "min_tokens": 2, "stop": ["x", "y"], "stop_token_ids": [7],
        "ignore_eos": True, "presence_penalty": 1, "frequency_penalty": -0.5,
        "repetition_penalty": 1.5, "logit_bias": {"30": -100, "7": 1.5}, "logprobs": 2,
    }  # fmt: skip
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        assert (await ask(service, COMPLETIONS, {"prompt": IDS, **asked})).status == 200
        sampling = worker.seen[0].sampling
        for name, value in asked.items():
            if name not in ("top_k", "seed", "logit_bias", "stop", "stop_token_ids"):
                assert getattr(sampling, name) == value, name
        assert (sampling.top_k, sampling.seed) == (0, 2**64 - 2)
        assert list(sampling.stop) == ["x", "y"]
        assert list(sampling.stop_token_ids) == [7]
        assert dict(sampling.logit_bias) == {30: -100.0, 7: 1.5}


async def test_several_answers_have_seeds_of_their_own_and_one_prompt():
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        body = {"prompt": [IDS, IDS[::-1]], "n": 2, "max_tokens": 3, "seed": 5}
        whole = await ask(service, COMPLETIONS, body)
        assert [one["index"] for one in whole.json["choices"]] == [0, 1, 2, 3]
        texts = [one["text"] for one in whole.json["choices"]]
        assert texts == [text_of(answer(prompt, 3)) for prompt in (IDS, IDS, IDS[::-1], IDS[::-1])]
        usage = whole.json["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2 * len(IDS), 12)
        assert sorted(one.sampling.seed for one in worker.seen) == [5, 5, 6, 6]
        streamed = await ask(
            service,
            COMPLETIONS,
            {**body, "stream": True, "stream_options": {"include_usage": True}},
        )
        *events, last = streamed.events
        for index, text in enumerate(texts):
            got = [one["choices"][0] for one in events if one["choices"][0]["index"] == index]
            assert "".join(one["text"] for one in got) == text
            assert [one["finish_reason"] for one in got] == [None, None, "length"]
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == 12
        assert nobody_is_in(service)


def _has_told(service: RouterService) -> bool:
    status = service.runtime.events.status(WorkerId("a"))
    return status is not None and status.applied_seq > 0


async def test_log_probabilities_are_told_of_each_token_once():
    """The fake tells of the position, and of two others at each."""
    async with chatting() as service:
        body = {"prompt": IDS, "max_tokens": 4, "logprobs": 2}
        told = (await ask(service, COMPLETIONS, body)).json["choices"][0]["logprobs"]
        expected = [one.logprob for one in (told_at(position, 2) for position in range(4))]
        assert told["token_logprobs"] == expected
        assert len(told["tokens"]) == len(told["top_logprobs"]) == 4
        lengths = [len(token) for token in told["tokens"]]
        assert told["text_offset"] == [sum(lengths[:at]) for at in range(4)]
        events = (await ask(service, COMPLETIONS, {**body, "stream": True})).events
        parts = [one["choices"][0]["logprobs"] for one in events]
        for name in ("token_logprobs", "tokens", "top_logprobs", "text_offset"):
            assert [value for part in parts for value in part[name]] == told[name]
        chat = {"messages": MESSAGES, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}
        content = (await ask(service, CHATS, chat)).json["choices"][0]["logprobs"]["content"]
        assert [one["logprob"] for one in content] == expected[:3]
        for one in content:
            assert bytes(one["bytes"])
            assert len(one["top_logprobs"]) == 2
        alone = {**chat, "top_logprobs": None}
        content = (await ask(service, CHATS, alone)).json["choices"][0]["logprobs"]["content"]
        assert [one["top_logprobs"] for one in content] == [[], [], []]


async def test_a_second_request_is_told_what_was_cached_and_predicted():
    async with chatting() as service:
        body = {"prompt": IDS, "max_tokens": 3}
        await ask(service, COMPLETIONS, body)
        await until(lambda: _has_told(service))
        again = await ask(service, COMPLETIONS, body, "X-Request-Id: mine-1", "X-Session-Id: s")
        cached = again.json["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == 36
        assert again.headers["x-radixroute-cached-tokens"] == "36"
        assert again.headers["x-radixroute-predicted-tokens"] == "36"
        assert again.headers["x-radixroute-worker"] == "a"
        assert again.headers["x-request-id"] == "mine-1"
        ours = again.headers["x-radixroute-request-id"]
        assert service.runtime.core.logged(ours).cached_tokens == 36


async def test_a_trace_context_goes_to_the_worker_if_it_is_one():
    worker = FakeWorker("a")
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    async with chatting(worker) as service:
        for header in (f"Traceparent: {context}", f"traceparent: {CANARY}"):
            await ask(service, COMPLETIONS, {"prompt": IDS, "max_tokens": 1}, header)
        assert [one.traceparent for one in worker.seen] == [context, ""]


REFUSED = [
    (b"", "body"),
    (b"[1]", "body"),
    (b"{", "body"),
    (b'{"prompt": "\xff"}', None),
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prompt": [1, 2**32]}, "prompt"),
    ({"prompt": [1, 400]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": {}}, "prompt"),
    ({"prompt": ["a"] * 9}, "prompt"),
    ({"prompt": [[1]] * 3, "n": 3}, "n"),
    ({"prompt": list(range(20)) * 26}, "prompt"),
    ({"prompt": [1], "max_tokens": "a"}, "max_tokens"),
    ({"prompt": [1], "max_tokens": 0}, "max_tokens"),
    ({"prompt": [1], "max_tokens": 10**400}, "max_tokens"),
    ({"prompt": [1], "n": 0}, "n"),
    ({"prompt": [1], "n": 9}, "n"),
    ({"prompt": [1], "temperature": -1}, "temperature"),
    ({"prompt": [1], "temperature": 1e300}, "temperature"),
    ({"prompt": [1], "top_p": 0}, "top_p"),
    ({"prompt": [1], "top_k": -2}, "top_k"),
    ({"prompt": [1], "top_k": 2**40}, "top_k"),
    ({"prompt": [1], "min_p": 2}, "min_p"),
    ({"prompt": [1], "seed": 2**64}, "seed"),
    ({"prompt": [1], "min_tokens": -1}, "min_tokens"),
    ({"prompt": [1], "stop": ["a"] * 17}, "stop"),
    ({"prompt": [1], "stop": [1]}, "stop"),
    ({"prompt": [1], "stop": ""}, "stop"),
    ({"prompt": [1], "stop_token_ids": [-1]}, "stop_token_ids"),
    ({"prompt": [1], "logit_bias": {"x": 1}}, "logit_bias"),
    ({"prompt": [1], "logit_bias": {"1": 101}}, "logit_bias"),
    ({"prompt": [1], "logprobs": 21}, "logprobs"),
    ({"prompt": [1], "stream_options": {}}, "stream_options"),
    ({"prompt": [1], "echo": True}, "echo"),
    ({"prompt": [1], "suffix": "x"}, "suffix"),
    ({"prompt": [1], "best_of": 2}, "best_of"),
    ({"prompt": [1], "guided_json": {}}, "guided_json"),
    ({"prompt": [1], "n\u00f6": 1}, "n\u00f6"),
]
REFUSED_CHATS = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "user"}, {"content": "x"}]}, "messages"),
    ({"messages": [{"role": "pirate", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages"),
    ({"messages": MESSAGES, "tools": [{}]}, "tools"),
    ({"messages": MESSAGES, "tool_choice": "required"}, "tool_choice"),
    ({"messages": MESSAGES, "response_format": {"type": "json_object"}}, "response_format"),
    ({"messages": MESSAGES, "modalities": ["audio"]}, "modalities"),
    ({"messages": MESSAGES, "reasoning_effort": "low"}, "reasoning_effort"),
    ({"messages": MESSAGES, "top_logprobs": 2}, "top_logprobs"),
]


async def test_what_cannot_be_done_is_refused_by_its_name():
    async with chatting() as service:
        for path, rows in ((COMPLETIONS, REFUSED), (CHATS, REFUSED_CHATS)):
            for body, field in rows:
                told = await ask(service, path, body)
                assert told.status == 400, (body, told)
                error = told.json["error"]
                assert error["type"] == "invalid_request_error"
                assert field is None or error["param"] == field, body
        assert nobody_is_in(service)
        service.runtime.core.check()


async def test_too_long_a_prompt_has_the_code_that_clients_look_for():
    async with chatting() as service:
        told = await ask(service, COMPLETIONS, {"prompt": [5] * 512})
        assert (told.status, told.json["error"]["code"]) == (400, "context_length_exceeded")
        await ask(service, COMPLETIONS, {"prompt": [5] * 8, "temperature": -1})
        counts = service.runtime.core._state.counters
        assert (counts[Count.REQUESTS_REJECTED], counts[Count.REQUESTS_TOO_LONG]) == (2, 1)
        assert service.reception.rejections.by_field == {"temperature": 1}


async def test_an_unknown_model_is_not_found():
    async with chatting() as service:
        told = await ask(service, COMPLETIONS, {"prompt": [1], "model": "other"})
        assert (told.status, told.json["error"]["code"]) == (404, "model_not_found")


async def test_values_that_ask_for_nothing_pass():
    asked = {
        "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "user": "me",
        "metadata": {"a": "b"}, "store": False, "functions": None, "modalities": ["text"],
        "parallel_tool_calls": True, "prompt_cache_key": "k", "service_tier": "auto",
        "never_heard_of": None,
    }  # fmt: skip
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": [], "audio": None},
        {"role": "user", "content": parts, "name": "me"},
    ]
    async with chatting() as service:
        told = await ask(service, CHATS, {"messages": messages, "max_tokens": 2, **asked})
        assert told.status == 200, told


async def test_fields_that_reach_into_an_engine_are_dropped_and_counted():
    worker = FakeWorker("a")
    async with chatting(worker) as service:
        body = {"prompt": IDS, "max_tokens": 1}
        reaching = {name: {"x": CANARY} for name in [*sorted(STRIPPED), "bootstrap_host"]}
        assert (await ask(service, COMPLETIONS, {**body, **reaching})).status == 200
        escaped = json.dumps(body)[:-1] + ', "cache\\u005fsalt": "x", "cache_salt": 7}'
        assert (await ask(service, COMPLETIONS, escaped.encode())).status == 200
        assert all(CANARY not in str(one) and not one.scope.cache_salt for one in worker.seen)
        counters = service.runtime.core._state.counters
        assert counters[Count.FIELDS_DROPPED] == len(reaching) + 1


async def test_fields_that_clients_may_set_are_ours_to_understand():
    worker = FakeWorker("a")
    async with chatting(worker, http_client_fields="cache_salt, priority") as service:
        body = {"prompt": IDS, "max_tokens": 1, "cache_salt": "mine", "priority": 2}
        assert (await ask(service, COMPLETIONS, body)).status == 200
        assert worker.seen[0].scope.cache_salt == "mine"
        told = await ask(service, COMPLETIONS, {**body, "priority": 10})
        assert told.json["error"]["param"] == "priority"


def test_no_error_repeats_a_value():
    for name in ("prompt", "messages", "stop", "max_tokens", "model", "logit_bias", "seed"):
        for value in (CANARY, [CANARY], {CANARY: CANARY}, [{CANARY: [CANARY]}]):
            body = json.dumps({"prompt": [1], "messages": [], name: value}).encode()
            for is_chat in (True, False):
                assert CANARY not in _refusal_of(body, is_chat)


def _refusal_of(body: bytes, is_chat: bool) -> str:
    try:
        read_body(body, is_chat=is_chat, allowed=frozenset())
    except InvalidRequest as error:
        return str(error)
    return ""


# What both doors have words for: (fields of SamplingParams, token ids).
SAME: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [5]),
    ({"n": 9}, [5]),
    ({"temperature": 0.0005}, [5]),
    ({"temperature": 0.7}, [5]),
    ({"temperature": -1.0}, [5]),
    ({"temperature": math.inf}, [5]),
    ({"top_p": 1.5}, [5]),
    ({"top_k": 3}, [5]),
    ({"min_p": -0.5}, [5]),
    ({"presence_penalty": 2.5}, [5]),
    ({"frequency_penalty": -2.0}, [5]),
    ({"repetition_penalty": 0.0}, [5]),
    ({"max_tokens": 0}, [5]),
    ({"max_tokens": 10_000}, [5] * 500),
    ({"min_tokens": 20, "max_tokens": 10}, [5]),
    ({"logprobs": 20}, [5]),
    ({"logprobs": 21}, [5]),
    ({"stop": ["a"] * 16}, [5]),
    ({"stop": ["a"] * 17}, [5]),
    ({"stop": ["a" * 257]}, [5]),
    ({"stop_token_ids": [1] * 65}, [5]),
    ({"stop_token_ids": [400]}, [5]),
    ({"logit_bias": {400: 1.0}}, [5]),
    ({"logit_bias": {1: 101.0}}, [5]),
    ({"logit_bias": dict.fromkeys(range(1025), 1.0)}, [5]),
    ({}, []),
    ({}, [5] * 511),
    ({}, [5] * 512),
    ({}, [400]),
]


async def test_both_doors_let_in_the_same():
    async with chatting(FakeWorker("a", step_s=0.0001), generation_config="ours") as service:
        for sampling, ids in SAME:
            async with grpc.aio.insecure_channel(str(service.address)) as channel:
                router = rpc.RouterStub(channel)
                asked = {"max_tokens": 1, **sampling}
                proto = pb.GenerateRequest(
                    token_ids=pack_tokens(ids), sampling=pb.SamplingParams(**asked)
                )
                try:
                    async for _ in router.Generate(proto):
                        pass
                    by_grpc = ""
                except grpc.aio.AioRpcError as error:
                    by_grpc = (error.details() or "").partition(" (request")[0]
                # JSON has no infinity: the largest number is one to a float of 32 bits.
                body = {k: 1e300 if v == math.inf else v for k, v in asked.items()}
                told = await ask(service, COMPLETIONS, {"prompt": ids, **body})
                refusal = told.json.get("error", {"message": ""})
                by_http = refusal["message"].partition(" (request")[0]
                if sampling.get("temperature") == math.inf:
                    assert by_http.startswith("temperature:")
                    assert by_grpc.startswith("temperature:")
                else:
                    assert by_http == by_grpc, (sampling, len(ids))
