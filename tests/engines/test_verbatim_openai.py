"""The official `openai` client, unchanged, with what only another's engine can do."""

import asyncio
from typing import Any

import openai
import pytest

from tests.engines.fake_chats import Scripted
from tests.engines.fleets import expected, fleet
from tests.router.clusters import until
from tests.router.http.test_openai_client import client_of
from tests.router.http.wire import nobody_is_in

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
]
MESSAGES: list[Any] = [{"role": "user", "content": "how is the weather in Rome"}]
ASKED: dict[str, Any] = {"model": "fake-model", "messages": MESSAGES, "max_tokens": 6}


async def test_calls_of_tools():
    async with fleet("a", "b") as made, client_of(made.router) as client:
        whole = await client.chat.completions.create(**ASKED, tools=TOOLS)
        (call,) = whole.choices[0].message.tool_calls
        engine = next(one for one in made.engines.values() if one.chats.bodies)
        prompt = engine.chats.prompt_of({"messages": MESSAGES, "tools": TOOLS})
        answer = "".join(f" {token}" for token in expected(prompt, 6))
        assert (call.function.name, call.function.arguments) == ("weather", answer)
        assert whole.choices[0].finish_reason == "tool_calls"
        assert whole.usage.prompt_tokens == len(prompt)
        stream = await client.chat.completions.create(
            **ASKED, tools=TOOLS, stream=True, stream_options={"include_usage": True}
        )
        got, usage = "", None
        async for event in stream:
            for choice in event.choices:
                got += choice.delta.tool_calls[0].function.arguments
            usage = event.usage or usage
        assert got == " " + " ".join(answer.split()[1:])
        assert usage is not None
        assert usage.completion_tokens == 6
        again = [
            *MESSAGES,
            whole.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "fine"},
        ]
        last = await client.chat.completions.create(**{**ASKED, "messages": again})
        assert last.choices[0].message.content
        assert nobody_is_in(made.router)


async def test_structured_output_and_pictures():
    schema = {"name": "answer", "schema": {"type": "object"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}}
    async with fleet("a") as made, client_of(made.router) as client:
        told = await client.chat.completions.create(
            **ASKED, response_format={"type": "json_schema", "json_schema": schema}
        )
        assert told.choices[0].message.content
        seen = [{"role": "user", "content": [picture, {"type": "text", "text": "what is it?"}]}]
        told = await client.chat.completions.create(**{**ASKED, "messages": seen})
        assert told.choices[0].message.content
        own = await client.chat.completions.create(**ASKED, extra_body={"tomorrow": 1})
        assert own.choices[0].message.content


async def test_errors_are_the_clients_own():
    async with fleet("a", "b") as made, client_of(made.router, max_retries=0) as client:
        said = b'{"error":{"message":"no such tool","type":"BadRequestError","code":400}}'
        script = [Scripted(400, "application/json", (said,))]
        for engine in made.engines.values():
            engine.chats.scripted = script
        with pytest.raises(openai.BadRequestError, match="no such tool"):
            await client.chat.completions.create(**ASKED, tools=TOOLS)
        event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
        script.append(Scripted(pieces=(event, b""), is_cut=True))
        stream = await client.chat.completions.create(**ASKED, tools=TOOLS, stream=True)
        with pytest.raises(openai.APIError, match="cut off"):
            async for _ in stream:
                pass
        assert nobody_is_in(made.router)


async def test_a_client_that_gives_up_frees_its_request():
    async with fleet("a", step_s=0.01) as made, client_of(made.router) as client:
        engine = made.engines["a"]
        asked = {**ASKED, "max_tokens": 400, "tools": TOOLS}
        stream = await client.chat.completions.create(**asked, stream=True)
        await anext(aiter(stream))
        await stream.close()
        asking = asyncio.create_task(client.chat.completions.create(**asked))
        await until(lambda: len(engine.chats.bodies) == 2)
        asking.cancel()
        await until(lambda: engine.n_aborted == 2 and not engine.in_flight)
        await until(lambda: nobody_is_in(made.router))
