"""The demo's chats through one front: what the engines hit, and when first tokens came.

The same client, engines and chats for every front; caches are cleared before each run. Hits are
the engines' own counters.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import openai
from openai.types.chat import ChatCompletionMessageParam

from bench.real_vllm.fronts import Front
from bench.real_vllm.server import NAME, RealVllm
from radixroute.demo.errors import AskFailed
from radixroute.demo.port import Piece
from radixroute.demo.run import ttft_of
from radixroute.demo.workload.chat_driver import ChatDriver, RealClock
from radixroute.demo.workload.chats import Workload
from radixroute.request.chat import ChatMessage

IN_FLIGHT = 9  # as in the demo
QUERIES, HITS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"
WARM_UP = 4


@dataclass(frozen=True, slots=True)
class Compared:
    """One front's run."""

    front: str
    hit_rate: float
    ttft_ms: float  # mean
    ttft_p99_ms: float
    elapsed_s: float
    errors: tuple[str, ...]


class HttpPort:
    """A `Port` of the demo's driver over any OpenAI API. A chunk with text counts as one token."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def ask(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncIterator[Piece]:
        turns: list[ChatCompletionMessageParam] = [
            {"role": message.role, "content": message.content}  # type: ignore[misc]
            for message in messages
        ]
        position = 0
        try:
            stream = await self._client.chat.completions.create(
                model=NAME, messages=turns, max_tokens=max_tokens, temperature=0.0, stream=True
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    text = choice.delta.content or ""
                    ids = (0,) if text else ()
                    is_end = choice.finish_reason is not None
                    yield Piece(chunk.id, ids, text, position, is_end)
                    position += len(ids)
        except openai.OpenAIError as error:
            raise AskFailed(str(error)) from error


async def compare(front: Front, engines: Sequence[RealVllm], workload: Workload) -> Compared:
    base = front.start([engine.url for engine in engines])
    try:
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
            port = HttpPort(client)
            for engine in engines:
                engine.reset_cache()
            for number in range(WARM_UP):  # a clearing takes effect at an engine's next step
                async for _ in port.ask([ChatMessage("user", f"{number}: hello")], 4):
                    pass
            before = [(engine.counter(QUERIES), engine.counter(HITS)) for engine in engines]
            outcome = await ChatDriver(port, workload, in_flight=IN_FLIGHT, clock=RealClock()).run()
            after = [(engine.counter(QUERIES), engine.counter(HITS)) for engine in engines]
    finally:
        front.stop()
    asked = sum(a[0] - b[0] for a, b in zip(after, before, strict=True))
    hit = sum(a[1] - b[1] for a, b in zip(after, before, strict=True))
    ttft = ttft_of(outcome)
    return Compared(
        front.name, hit / max(asked, 1), ttft.mean, ttft.p99, outcome.elapsed_s, outcome.errors
    )
