"""The official `openai` client, unchanged, against this door; and once over a real worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from radixroute.router.service import RouterService
from tests.router.clusters import until
from tests.router.fakes import FakeWorker, answer, text_of
from tests.router.http.wire import IDS, chatting, nobody_is_in, url
from tests.router.real_fleet import fleet

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
]


@asynccontextmanager
async def client_of(service: RouterService, **more) -> AsyncIterator[Any]:
    """Not its types: tests ask for what they forbid."""
    made = openai.AsyncOpenAI(base_url=f"{url(service)}/v1", api_key="unused", **more)
    async with made as client:
        yield client


async def test_models():
    async with chatting() as service, client_of(service) as client:
        (one,) = (await client.models.list()).data
        assert one.id == "tiny"
        assert (await client.models.retrieve("tiny")).id == "tiny"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


async def test_completions():
    async with chatting() as service, client_of(service) as client:
        whole = await client.completions.create(model="tiny", prompt=IDS, max_tokens=5, n=2)
        text = text_of(answer(IDS, 5))
        assert [(one.text, one.finish_reason) for one in whole.choices] == [(text, "length")] * 2
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len(IDS), 10)
        got = ""
        stream = await client.completions.create(
            model="tiny", prompt=IDS, max_tokens=5, stream=True
        )
        async for event in stream:
            got += event.choices[0].text
        assert got == text


async def test_chats():
    async with chatting() as service, client_of(service) as client:
        whole = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, max_completion_tokens=6, seed=1, temperature=0.5
        )
        message = whole.choices[0].message
        assert message.role == "assistant"
        assert len(message.content) == 6
        assert whole.usage.prompt_tokens_details.cached_tokens == 0
        stream = await client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            max_completion_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [event async for event in stream]
        assert events[0].choices[0].delta.role == "assistant"
        text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
        assert text == message.content
        assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "length"
        assert events[-1].usage.completion_tokens == 6
        assert events[-1].usage.prompt_tokens_details.cached_tokens > 0


async def test_errors_are_the_clients_own():
    async with (
        chatting(FakeWorker("a", never_prefill=True), request_timeout_s=0.4) as service,
        client_of(service, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.completions.create(model="tiny", prompt=IDS, temperature=-1)
        assert refused.value.param == "temperature"
        assert refused.value.request_id
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model="other", prompt=IDS)
        with pytest.raises(openai.BadRequestError, match="tools"):
            await client.chat.completions.create(
                model="tiny",
                messages=MESSAGES,
                tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            )
        with pytest.raises(openai.InternalServerError):  # its name for 504
            await client.completions.create(model="tiny", prompt=IDS)


async def test_an_error_in_a_stream_is_raised():
    async with (
        chatting(FakeWorker("a", hold_after=3), request_timeout_s=0.5) as service,
        client_of(service, max_retries=0) as client,
    ):
        stream = await client.completions.create(
            model="tiny", prompt=IDS, max_tokens=50, stream=True
        )
        with pytest.raises(openai.APIError, match="deadline"):
            async for _ in stream:
                pass


async def test_a_stream_that_is_closed_ends_at_the_worker():
    worker = FakeWorker("a", hold_after=3)
    async with chatting(worker) as service, client_of(service) as client:
        stream = await client.completions.create(
            model="tiny", prompt=IDS, max_tokens=50, stream=True
        )
        await anext(aiter(stream))
        await stream.close()
        await until(lambda: nobody_is_in(service) and not worker.live)


async def test_a_real_worker_stops_where_it_is_told_to():
    """Its text is printable letters; the fake model's answer depends on the seed alone."""
    async with fleet("a") as (service, _workers, _router), client_of(service) as client:
        (model,) = (await client.models.list()).data
        asked = {"model": model.id, "prompt": "hello", "seed": 3, "max_tokens": 30}
        whole = await client.completions.create(**asked, extra_body={"ignore_eos": True})
        text = whole.choices[0].text
        assert whole.usage.completion_tokens == 30
        stop = text[10:12]
        cut = await client.completions.create(**asked, stop=[stop], extra_body={"ignore_eos": True})
        assert cut.choices[0].finish_reason == "stop"
        assert cut.choices[0].text == text[: text.index(stop)]
        streamed = await client.completions.create(
            **asked, stop=[stop, "zz"], stream=True, extra_body={"ignore_eos": True}
        )
        assert "".join([e.choices[0].text async for e in streamed]) == cut.choices[0].text
