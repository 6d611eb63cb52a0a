"""Measurement of a cluster's engine for `replay.calibration`: prompts alone, decoding, and both.

Owns one short series. All goes through the router, as requests do, so what router and network add
is in the times. Every worker is given the same at once: workers that share a machine are measured
sharing it. The cluster should have nothing else to do meanwhile.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from radixroute.client import AsyncRouterClient
from radixroute.errors import RequestFailed
from radixroute.live.cluster import ClusterFacts
from radixroute.radix.ids import Tokens
from radixroute.replay.calibration.rows import BesideRow, DecodeRow, PrefillRow, Rows
from radixroute.request.limits import PartialSampling

LENGTHS = 6  # of prompts, from a block to the longest
REPEATS = 2  # of each length
DECODING = (1, 2, 4, 8)  # requests on each worker
DECODED = 24  # tokens of each of them
MIN_SPANS = 3  # from token to token, that make a row
BESIDE = 4  # requests that decode on each worker while a prompt comes
# Contexts to decode with, as shares of the longest prompt: a step grows with them.
CONTEXTS = (0.1, 0.5)


@dataclass(slots=True)
class Answer:
    """One request's answer as it comes."""

    prompt_tokens: int
    sent_ns: int = 0
    worker_id: str = ""
    cached_tokens: int = 0
    router_ms: float = 0.0  # from the router's arrival to its first token
    token_ns: list[int] = field(default_factory=list)  # those of one message came together
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # its first token came

    @property
    def computed_tokens(self) -> int:
        return self.prompt_tokens - self.cached_tokens

    def waits_in(self, begin_ns: int, end_ns: int) -> bool:
        """Whether it was without its first token at any time of that span."""
        return self.sent_ns < end_ns and begin_ns < self.token_ns[0]

    @property
    def ttft_ms(self) -> float:
        return (self.token_ns[0] - self.sent_ns) / 1e6

    @property
    def client_ms(self) -> float:
        """What its client waited for it, and the router did not."""
        return max(0.0, self.ttft_ms - self.router_ms)


async def measure(
    client: AsyncRouterClient,
    cluster: ClusterFacts,
    max_prompt_tokens: int,
    rng: np.random.Generator,
    tell: Callable[[int, int], None],
) -> Rows:
    """`max_prompt_tokens`: no longer prompt matters. `tell`: rounds done, in all.

    `rng` must be another one each time: prompts that are in a cache already measure nothing. Raises
    `FrontDoorError`.
    """
    most = _max_prompt_tokens(cluster, max_prompt_tokens)
    return await _Series(client, cluster, most, rng, tell).run()


def _max_prompt_tokens(cluster: ClusterFacts, wanted: int) -> int:
    """A pool must hold a whole round. The longest may take several steps."""
    pool = cluster.kv_blocks * cluster.block_size
    fitting = min(pool // (max(DECODING) + 1), cluster.max_tokens) - DECODED - cluster.block_size
    tokens = min(max(wanted, 4 * cluster.block_size), fitting)
    if tokens < 2 * cluster.block_size:
        raise RequestFailed("this cluster holds too little to be measured: give it more KV memory")
    return tokens


class _Series:
    def __init__(
        self,
        client: AsyncRouterClient,
        cluster: ClusterFacts,
        max_prompt_tokens: int,
        rng: np.random.Generator,
        tell: Callable[[int, int], None],
    ) -> None:
        self._client, self._cluster, self._max_prompt_tokens = client, cluster, max_prompt_tokens
        self._rng, self._tell = rng, tell

    async def run(self) -> Rows:
        lengths = np.unique(
            np.geomspace(self._cluster.block_size, self._max_prompt_tokens, LENGTHS).astype(int)
        )
        order = self._rng.permutation(np.repeat(lengths, REPEATS)).tolist()
        rounds = [(n, self._context(share)) for share in CONTEXTS for n in DECODING]
        total, done = len(order) + len(rounds) + LENGTHS, 0
        await self._all(self._cluster.block_size, 2)  # the first ones pay for all
        prefill: list[PrefillRow] = []
        decode: list[DecodeRow] = []
        beside: list[BesideRow] = []
        for length in order:
            prefill += [
                PrefillRow(one.computed_tokens, one.ttft_ms, one.cached_tokens, one.client_ms)
                for one in alone(await self._all(length, 1))
            ]
            done += 1
            self._tell(done, total)
        for n, length in rounds:
            answers = await self._all(length, DECODED, n)
            for worker_id in self._cluster.workers:
                decode += decode_rows([one for one in answers if one.worker_id == worker_id])
            done += 1
            self._tell(done, total)
        async with self._decoding() as running:
            for length in lengths.tolist():
                before = Counter(one.worker_id for one in running)
                context = sum(one.prompt_tokens + len(one.token_ns) for one in running)
                beside += [
                    BesideRow(one.computed_tokens, n, context * n / len(running), one.ttft_ms)
                    for one in alone(await self._all(length, 1))
                    if (n := before[one.worker_id])
                ]
                done += 1
                self._tell(done, total)
        pool = self._cluster.kv_blocks * self._cluster.block_size
        chunk_tokens = self._cluster.max_num_batched_tokens
        return Rows(pool, tuple(prefill), tuple(decode), tuple(beside), chunk_tokens)

    def _context(self, share: float) -> int:
        return max(1, round(self._max_prompt_tokens * share))

    @asynccontextmanager
    async def _decoding(self) -> AsyncIterator[list[Answer]]:
        """Some requests that decode on each worker for as long as the body runs."""
        length = self._context(CONTEXTS[0])
        # Two steps for each prompt that comes beside, and a few more; never more than fits.
        n_output = min(self._cluster.max_tokens - length, 20 * LENGTHS)
        running = [Answer(length) for _ in range(BESIDE * len(self._cluster.workers))]
        tasks = [asyncio.create_task(self._ask(one, n_output)) for one in running]
        try:
            for one, task in zip(running, tasks, strict=True):
                first = asyncio.create_task(one.begun.wait())
                # One that fails says so here; its token will not come.
                await asyncio.wait([first, task], return_when=asyncio.FIRST_COMPLETED)
                first.cancel()
            yield running
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _all(self, length: int, n_output: int, each: int = 1) -> list[Answer]:
        """So many requests for each worker, all at once."""
        answers = [Answer(length) for _ in range(each * len(self._cluster.workers))]
        await asyncio.gather(*(self._ask(one, n_output) for one in answers))
        return answers

    def _prompt(self, length: int) -> Tokens:
        return self._rng.integers(0, self._cluster.vocab_size, length).astype(np.uint32)

    async def _ask(self, answer: Answer, n_output: int) -> None:
        sampling = PartialSampling(temperature=0.0, max_tokens=n_output, ignore_eos=True)
        prompt = self._prompt(answer.prompt_tokens)
        answer.sent_ns = time.perf_counter_ns()
        async for delta in self._client.generate(prompt, sampling):
            answer.token_ns += [time.perf_counter_ns()] * len(delta.token_ids)
            if answer.token_ns:
                answer.begun.set()
            if delta.usage is not None:
                answer.worker_id = delta.usage.worker_id
                answer.cached_tokens = delta.usage.cached_tokens
                answer.router_ms = delta.usage.ttft_ms
        if not answer.token_ns:
            raise RequestFailed("a request that was to be timed gave no token; try again")


def alone(answers: Sequence[Answer]) -> list[Answer]:
    """Those whose prompt met no other prompt of them on its worker."""
    found = []
    for one in answers:
        begin, end = one.sent_ns, one.token_ns[0]
        if not any(
            other is not one and other.waits_in(begin, end) for other in _with(one, answers)
        ):
            found.append(one)
    return found


def decode_rows(answers: Sequence[Answer]) -> list[DecodeRow]:
    """One worker's steps that only decoded, by how many requests were in them."""
    spans: dict[int, list[tuple[float, int]]] = {}  # by requests: (ms a token, context tokens)
    for one in answers:
        n_by_ns = Counter(one.token_ns)
        for begin, end in pairwise(n_by_ns):
            if any(other.waits_in(begin, end) for other in answers):
                continue
            there = [o for o in answers if o.token_ns[0] <= begin and end <= o.token_ns[-1]]
            context = sum(o.prompt_tokens + bisect_right(o.token_ns, begin) for o in there)
            ms = (end - begin) / n_by_ns[end] / 1e6
            spans.setdefault(len(there), []).append((ms, context))
    rows = []
    for n, seen in sorted(spans.items()):
        if len(seen) >= MIN_SPANS:
            ms, context = np.mean(seen, axis=0).tolist()
            rows.append(DecodeRow(n, context, ms))
    return rows


def _with(one: Answer, answers: Sequence[Answer]) -> list[Answer]:
    """On the same worker."""
    return [other for other in answers if other.worker_id == one.worker_id]
