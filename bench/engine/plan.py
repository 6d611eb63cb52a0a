"""The benchmark's comparisons: which sides meet, over what, in how many rounds.

Every function yields finished rows; sides alternate within each round, so that whatever else the
machine does falls on both. Time to first token has the warm prompt as ours and the cold one as
peer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.engine.laps import EngineRow, Lap, Samples, Stopwatch, interleaved
from bench.engine.live import live_client, live_steps, live_worker
from bench.engine.ours import OurEngine, Prompts, bench_settings
from bench.engine.peer import PeerModel
from radixroute.radix.ids import Tokens
from radixroute.worker.model.registry import load_config
from radixroute.worker.settings import WorkerSettings

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
PREFILL_TOKENS = (512, 2048)
DECODE_BATCHES = (1, 8)
DECODE_CONTEXT, DECODE_STEPS = 256, 24
TTFT_TOKENS = 2048
# 119 blocks: the cache shares whole ones only, and 1,900 tokens are not.
TTFT_CACHED = 1904
STREAMS, STREAM_CONTEXT, STREAM_STEPS = 64, 32, 24
# 16,384 tokens of the demo's model in float32: every sequence of any row at once, without eviction.
POOL_BYTES = 16_384 * 46_080

Announce = Callable[[str, int, int], None]  # row, rounds done, rounds in all
FirstToken = Callable[[Tokens], Awaitable[tuple[Lap, int]]]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How long to measure."""

    model: Path
    rounds: int
    ttft_rounds: int
    stream_rounds: int


FULL_ROUNDS, QUICK_ROUNDS = (7, 3, 3), (1, 1, 1)


def row_names() -> list[str]:
    """Every row of a whole run, in order."""
    names = []
    for dtype in DTYPES:
        names += [f"prefill.{n}.{dtype}" for n in PREFILL_TOKENS]
        names += [f"decode.b{n}.{dtype}" for n in DECODE_BATCHES]
        names.append(f"ttft.engine.{dtype}")
    return [*names, *(f"ttft.grpc.{dtype}" for dtype in DTYPES), "step.64streams"]


def compute_rows(plan: EnginePlan, dtype: str, announce: Announce) -> Iterator[EngineRow]:
    """Our engine against `transformers`, then its own cache against none."""
    name = DTYPES[dtype]
    announce(f"loading {dtype}", 0, 0)
    engine, peer = OurEngine(_settings(plan, name)), PeerModel(plan.model, name)
    prompts = Prompts(engine.vocab_size)
    for n_tokens in PREFILL_TOKENS:
        given = [prompts.draw(n_tokens) for _ in range(plan.rounds + 1)]
        row = f"prefill.{n_tokens}.{dtype}"
        samples = interleaved(engine.prefill, peer.prefill, given, partial(announce, row))
        yield samples.rates(row)
    for size in DECODE_BATCHES:
        # The same prompts in each round: both sides have them cached then, and decode at once.
        batches = [[prompts.draw(DECODE_CONTEXT) for _ in range(size)]] * (plan.rounds + 1)
        row = f"decode.b{size}.{dtype}"
        ours, theirs = (partial(side.decode, n_steps=DECODE_STEPS) for side in (engine, peer))
        samples = interleaved(ours, theirs, batches, partial(announce, row))
        yield samples.rates(row)

    async def first_token(prompt: Tokens) -> tuple[Lap, int]:
        return engine.first_token(prompt)

    yield asyncio.run(_ttft_row(plan, f"ttft.engine.{dtype}", first_token, prompts, announce))


async def live_rows(plan: EnginePlan, announce: Announce) -> AsyncIterator[EngineRow]:
    """Through the services, the engine in a process of its own."""
    vocab_size = load_config(plan.model).vocab_size
    for number, (dtype, name) in enumerate(DTYPES.items()):
        settings = _settings(plan, name)
        announce(f"starting a worker, {dtype}", 0, 0)
        async with live_worker(settings) as worker, live_client(worker, settings) as client:
            prompts = Prompts(vocab_size, seed=number + 1)
            yield await _ttft_row(plan, f"ttft.grpc.{dtype}", client.first_token, prompts, announce)
    yield await _streams_row(plan, announce)


async def _ttft_row(
    plan: EnginePlan, name: str, ask: FirstToken, prompts: Prompts, announce: Announce
) -> EngineRow:
    samples = Samples()
    for number in range(-1, plan.ttft_rounds):
        cold = prompts.draw(TTFT_TOKENS)
        warm = np.concatenate([cold[:TTFT_CACHED], prompts.draw(TTFT_TOKENS - TTFT_CACHED)])
        for prompt, values, cached in ((cold, samples.peer, 0), (warm, samples.ours, TTFT_CACHED)):
            lap, found = await ask(prompt)
            if found != cached:
                raise RuntimeError(f"{name}: {found} tokens were cached instead of {cached}")
            if number >= 0:  # the first round warms up
                values.append(lap)
        announce(name, number + 1, plan.ttft_rounds)
    return samples.times(name)


async def _streams_row(plan: EnginePlan, announce: Announce) -> EngineRow:
    """Steps of 64 decoding sequences: seen by a worker's caller, and in the bare engine."""
    name = f"step.{STREAMS}streams"
    settings = _settings(plan, "auto")
    announce(f"starting a worker, {STREAMS} streams", 0, 0)
    bare = OurEngine(settings)
    prompts = Prompts(bare.vocab_size)
    samples = Samples()
    async with live_worker(settings) as worker:
        for number in range(-1, plan.stream_rounds):
            given = [prompts.draw(STREAM_CONTEXT) for _ in range(STREAMS)]
            # In a thread: the services must go on breathing meanwhile.
            bare_steps = await asyncio.to_thread(_bare_steps, bare, given)
            steps = await live_steps(worker, given, STREAM_STEPS)
            if number >= 0:
                samples.peer += bare_steps
                samples.ours += steps
            announce(name, number + 1, plan.stream_rounds)
    return samples.times(name)


def _bare_steps(engine: OurEngine, prompts: list[Tokens]) -> list[Lap]:
    engine.submit(prompts, max_tokens=STREAM_STEPS)
    laps: list[Lap] = []
    while len(engine.step().outputs) < len(prompts):
        pass
    for _ in range(STREAM_STEPS - 1):
        watch = Stopwatch()
        n_tokens = len(engine.step().outputs)
        laps.append(watch.lap(n_tokens))
    engine.finish()
    return laps


def _settings(plan: EnginePlan, dtype: str) -> WorkerSettings:
    return bench_settings(plan.model, dtype, POOL_BYTES)
