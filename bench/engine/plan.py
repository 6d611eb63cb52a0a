"""The benchmark's comparisons: which sides meet, over what, in how many rounds.

Every function yields finished rows; sides alternate within each round, so that whatever else the
machine does falls on both. Time to first token has the warm prompt as ours and the cold one as
peer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import torch

from bench.engine.laps import EngineRow, Lap, Laps, Stopwatch, interleaved, rates, times
from bench.engine.limits import Cost, Costs, Peaks, measure_peaks
from bench.engine.live import live_client, live_steps, live_worker
from bench.engine.ours import OurEngine, Prompts, bench_settings
from bench.engine.spent import spent
from bench.engine.transformers_peer import TransformersPeer
from bench.engine.vllm_peer import vllm_peer
from radixroute.demo.model import CACHE
from radixroute.radix.ids import Tokens
from radixroute.worker.model.registry import load_config
from radixroute.worker.settings import WorkerSettings

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
PREFILL_TOKENS = (512, 2048)
DECODE_BATCHES = (1, 4, 8, 32)
DECODE_CONTEXT, DECODE_STEPS = 256, 24
TTFT_TOKENS = 2048
# 119 blocks: the cache shares whole ones only, and 1,900 tokens are not.
TTFT_CACHED = 1904
TTFT_BAR = 8.0
STREAMS, STREAM_CONTEXT, STREAM_STEPS = 64, 32, 24
# 16,384 tokens of the demo's model in float32: every sequence of any row at once, without eviction.
POOL_BYTES = 16_384 * 46_080

Announce = Callable[[str, int, int], None]  # row, rounds done, rounds in all
FirstToken = Callable[[Tokens], Awaitable[tuple[Lap, int]]]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How long to measure. `vllm`: its environment; None: it does not take part."""

    model: Path
    vllm: Path | None
    rounds: int
    ttft_rounds: int
    stream_rounds: int
    begin: str = ""  # of the names of rows that are measured; empty: all

    def takes(self, *names: str) -> bool:
        """Whether a row of this name, or one whose name begins so, is measured."""
        return any(n.startswith(self.begin) or self.begin.startswith(n) for n in names)

    @property
    def peers(self) -> tuple[str, ...]:
        return ("transformers",) if self.vllm is None else ("transformers", "vllm")


FULL_ROUNDS, QUICK_ROUNDS = (7, 3, 3), (1, 1, 1)


class _Peer(Protocol):
    def prefill(self, prompt: Tokens) -> Lap: ...

    def decode(self, prompts: Sequence[Tokens], n_steps: int) -> Lap: ...


def row_names(peers: Sequence[str]) -> list[str]:
    """Every row of a whole run, in order."""
    names = []
    for dtype in DTYPES:
        names += [f"prefill.{dtype}.{n}.{peer}" for n in PREFILL_TOKENS for peer in peers]
        names += [f"decode.{dtype}.b{n}.{peer}" for n in DECODE_BATCHES for peer in peers]
        names.append(f"ttft.{dtype}.engine")
    return [*names, *(f"ttft.{dtype}.grpc" for dtype in DTYPES), "step.64streams"]


def compute_rows(plan: EnginePlan, dtype: str, announce: Announce) -> Iterator[EngineRow]:
    """Our engine against others, then its own cache against none."""
    name = DTYPES[dtype]
    announce(f"measuring the machine, {dtype}", 0, 0)
    peaks = measure_peaks(getattr(torch, name))
    with ExitStack() as stack:
        announce(f"loading {dtype}", 0, 0)
        engine, model = OurEngine(_settings(plan, name)), TransformersPeer(plan.model, name)
        costs = Costs(plan.model, getattr(torch, name), model.layer_weights, model.head_weights)
        peers: dict[str, _Peer] = {"transformers": model}
        if plan.vllm is not None:
            announce(f"starting vLLM, {dtype}", 0, 0)
            log = CACHE / f"engine-vllm-{dtype}.log"
            peers["vllm"] = stack.enter_context(vllm_peer(plan.vllm, plan.model, name, log))
        prompts = Prompts(engine.vocab_size)
        for n_tokens in PREFILL_TOKENS:
            if not plan.takes(f"prefill.{dtype}.{n_tokens}"):
                continue
            given = [prompts.draw(n_tokens) for _ in range(plan.rounds + 1)]
            row = f"prefill.{dtype}.{n_tokens}"
            sides = {one: side.prefill for one, side in {"ours": engine, **peers}.items()}
            laps = interleaved(sides, given, partial(announce, row))
            shares = spent(partial(engine.prefill, prompts.draw(n_tokens)))
            yield from _against(row, laps, costs.prefill(n_tokens), peaks, shares)
        for size in DECODE_BATCHES:
            # The same prompts in each round: all have them cached then, and decode at once.
            batches = [[prompts.draw(DECODE_CONTEXT) for _ in range(size)]] * (plan.rounds + 1)
            row = f"decode.{dtype}.b{size}"
            if not plan.takes(row):
                continue
            steps = {
                one: partial(side.decode, n_steps=DECODE_STEPS)
                for one, side in {"ours": engine, **peers}.items()
            }
            laps = interleaved(steps, batches, partial(announce, row))
            cost = costs.decode(size, DECODE_CONTEXT + DECODE_STEPS // 2)
            shares = spent(partial(engine.decode, batches[0], DECODE_STEPS))
            yield from _against(row, laps, cost.times(DECODE_STEPS), peaks, shares)

    async def first_token(prompt: Tokens) -> tuple[Lap, int]:
        return engine.first_token(prompt)

    if not plan.takes(f"ttft.{dtype}.engine"):
        return
    yield asyncio.run(_ttft_row(plan, f"ttft.{dtype}.engine", first_token, prompts, announce))


def _against(
    row: str, laps: Laps, cost: Cost, peaks: Peaks, shares: Mapping[str, float]
) -> Iterator[EngineRow]:
    """A row for each peer: its bar, how near the machine's limit ours came, what took the time."""
    ours = laps["ours"]
    of_limit = cost.seconds(peaks) / median(lap.wall_s for lap in ours)
    for peer, theirs in laps.items():
        if peer != "ours":
            yield replace(
                rates(f"{row}.{peer}", ours, theirs),
                bar=bar_of(row, peer),
                of_limit=round(of_limit, 3),
                limit=cost.limit(peaks),
                spent=shares,
            )


def bar_of(row: str, peer: str) -> float:
    """Times better that was promised."""
    eased = peer == "vllm" and (row.startswith("prefill") or row.endswith(".b32"))
    return 0.9 if eased else 1.0


async def live_rows(plan: EnginePlan, announce: Announce) -> AsyncIterator[EngineRow]:
    """Through the services, the engine in a process of its own."""
    vocab_size = load_config(plan.model).vocab_size
    for number, (dtype, name) in enumerate(DTYPES.items()):
        if not plan.takes(f"ttft.{dtype}.grpc"):
            continue
        settings = _settings(plan, name)
        announce(f"starting a worker, {dtype}", 0, 0)
        async with live_worker(settings) as worker, live_client(worker, settings) as client:
            prompts = Prompts(vocab_size, seed=number + 1)
            yield await _ttft_row(plan, f"ttft.{dtype}.grpc", client.first_token, prompts, announce)
    if plan.takes(f"step.{STREAMS}streams"):
        yield await _streams_row(plan, announce)


async def _ttft_row(
    plan: EnginePlan, name: str, ask: FirstToken, prompts: Prompts, announce: Announce
) -> EngineRow:
    warm_laps: list[Lap] = []
    cold_laps: list[Lap] = []
    for number in range(-1, plan.ttft_rounds):
        cold = prompts.draw(TTFT_TOKENS)
        warm = np.concatenate([cold[:TTFT_CACHED], prompts.draw(TTFT_TOKENS - TTFT_CACHED)])
        for prompt, values, cached in ((cold, cold_laps, 0), (warm, warm_laps, TTFT_CACHED)):
            lap, found = await ask(prompt)
            if found != cached:
                raise RuntimeError(f"{name}: {found} tokens were cached instead of {cached}")
            if number >= 0:  # the first round warms up
                values.append(lap)
        announce(name, number + 1, plan.ttft_rounds)
    return replace(times(name, warm_laps, cold_laps), bar=TTFT_BAR)


async def _streams_row(plan: EnginePlan, announce: Announce) -> EngineRow:
    """Steps of 64 decoding sequences: seen by a worker's caller, and in the bare engine."""
    name = f"step.{STREAMS}streams"
    settings = _settings(plan, "auto")
    announce(f"starting a worker, {STREAMS} streams", 0, 0)
    bare = OurEngine(settings)
    prompts = Prompts(bare.vocab_size)
    served: list[Lap] = []
    alone: list[Lap] = []
    async with live_worker(settings) as worker:
        for number in range(-1, plan.stream_rounds):
            given = [prompts.draw(STREAM_CONTEXT) for _ in range(STREAMS)]
            # In a thread: the services must go on breathing meanwhile.
            bare_steps = await asyncio.to_thread(_bare_steps, bare, given)
            steps = await live_steps(worker, given, STREAM_STEPS)
            if number >= 0:
                alone += bare_steps
                served += steps
            announce(name, number + 1, plan.stream_rounds)
    return times(name, served, alone)


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
