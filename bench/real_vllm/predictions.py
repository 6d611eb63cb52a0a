"""Predicted against told cached tokens: requests that share more prefixes than caches hold.

A prediction is made at dispatch, the engine looks its cache up at admission. Between the two
another request may store what this one shares, or take the room of what it would have hit: those
differences are explained by who was open at the same time. All others are faults.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import openai

from bench.real_vllm.server import BLOCK_SIZE, NAME

FAMILIES, LENGTHS = 40, (2, 12)  # prompts that share, and how many blocks they do
OWN_TOKENS = (5, 90)
FIRST_ID, LAST_ID = 1000, 40_000  # plain tokens of the model
OUTPUT_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: tokens are counts, times are seconds."""

    prompt: tuple[int, ...]
    worker: str
    predicted: int
    told: int
    sent_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Difference:
    asked: Asked
    reason: str  # empty: not explained


async def ask_all(base: str, n: int, *, at_once: int, seed: int) -> list[Asked]:
    rng = random.Random(seed)
    prefixes = [_ids(rng, BLOCK_SIZE * rng.randint(*LENGTHS)) for _ in range(FAMILIES)]
    waiting = [(*rng.choice(prefixes), *_ids(rng, rng.randint(*OWN_TOKENS))) for _ in range(n)]
    done: list[Asked] = []

    async def one_after_another(client: openai.AsyncOpenAI) -> None:
        while waiting:
            done.append(await _ask(client, waiting.pop()))

    async with (
        openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(at_once):
            clients.create_task(one_after_another(client))
    return done


async def _ask(client: openai.AsyncOpenAI, prompt: tuple[int, ...]) -> Asked:
    sent_s = time.monotonic()
    raw = await client.completions.with_raw_response.create(
        model=NAME, prompt=list(prompt), max_tokens=OUTPUT_TOKENS, temperature=0.0
    )
    usage = raw.parse().usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    return Asked(
        prompt,
        raw.headers["X-Radixroute-Worker"],
        int(raw.headers["X-Radixroute-Predicted-Tokens"]),
        usage.prompt_tokens_details.cached_tokens or 0,
        sent_s,
        time.monotonic(),
    )


def _ids(rng: random.Random, n: int) -> tuple[int, ...]:
    return tuple(rng.randint(FIRST_ID, LAST_ID) for _ in range(n))


def differences(asked: Sequence[Asked]) -> list[Difference]:
    return [Difference(one, _why(one, asked)) for one in asked if one.predicted != one.told]


def _why(one: Asked, asked: Sequence[Asked]) -> str:
    beside = [
        other
        for other in asked
        if other is not one
        and other.worker == one.worker
        and other.sent_s < one.ended_s
        and other.ended_s > one.sent_s
    ]
    if one.told > one.predicted:
        stored = any(_shared(one.prompt, other.prompt) >= one.told for other in beside)
        return "a request beside it stored the blocks meanwhile" if stored else ""
    evicts = any(len(other.prompt) > other.told + BLOCK_SIZE for other in beside)
    return "a request beside it took the blocks' room meanwhile" if evicts else ""


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    n = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        n += 1
    return n
