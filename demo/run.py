"""One policy's run: warm-up that is thrown away, the workload, and what engines and client report.

Everything here goes through the router's gRPC door; the caches are fresh because the caller has
restarted the cluster.
"""

import asyncio
import datetime
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from radixroute.demo.machine import load_average
from radixroute.demo.plan import ChatTokenizer, DemoPlan
from radixroute.demo.port import Hits, RouterPort
from radixroute.demo.screen import Screen
from radixroute.demo.workload.chat_driver import ChatDriver, ChatOutcome, RealClock
from radixroute.demo.workload.chats import Workload
from radixroute.demo.workload.personas import load_personas
from radixroute.radix.ids import Tokens
from radixroute.replay.analysis.infinite_cache import Ceiling, Exchange, ceiling
from radixroute.request.chat import ChatMessage

SAMPLE = (
    ChatMessage("system", "You are a helpful assistant. Answer in two or three short sentences."),
    ChatMessage("user", "Why is the sky blue? Please explain it to a child."),
)
SAMPLE_TOKENS = 48
WARM_UP_ROUNDS = 2
WARM_UP_TOKENS = 12
# The settled counters of the last answers may reach the inspection a moment after the answers.
SETTLE_TRIES, SETTLE_PAUSE_S = 20, 0.1


@dataclass(frozen=True, slots=True)
class Ttft:
    """Time to first token at the client, milliseconds."""

    mean: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """One policy on one workload. Rates and hits are those that the engines report."""

    policy: str
    seed: int
    hit_rate: float
    ttft: Ttft
    requests_per_worker: dict[str, int]
    hits: Hits
    ceiling: Ceiling
    outcome: ChatOutcome
    faults: tuple[str, ...]  # what makes this run unfit to be quoted
    pool_blocks: int
    load_before: float

    @property
    def predicted_rate(self) -> float:
        """What the router believed at dispatch."""
        return self.hits.predicted_tokens / max(self.hits.prompt_tokens, 1)


class PolicyBench:
    """Runs one workload against the router at one address, under one policy after another."""

    def __init__(
        self, address: str, workload: Workload, plan: DemoPlan, tokenizer: ChatTokenizer
    ) -> None:
        self._address = address
        self._workload = workload
        self._plan = plan
        self._tokenizer = tokenizer

    async def run(self, policy: str, screen: Screen) -> PolicyRun:
        """The cluster must have been started or restarted under `policy` just now."""
        load_before = load_average()
        async with RouterPort(self._address) as port:
            screen.say("warm-up (discarded), with a sample answer:")
            await stream_sample(port, screen)
            await warm_up(port, self._plan.in_flight)
            warm = await _settled_hits(port, 1 + WARM_UP_ROUNDS * self._plan.in_flight)
            outcome = await self._drive(port, policy, screen)
            answered = sum(request.error is None for request in outcome.requests)
            hits = await _settled_hits(port, total_hits(warm).requests + answered)
            pools = await port.pool_blocks()
            served_under = await port.policy()
        run = self._judge(
            policy,
            outcome,
            hits={worker: row.since(warm.get(worker, Hits())) for worker, row in hits.items()},
            pool_blocks=min(pools.values(), default=0),
            load_before=load_before,
        )
        if served_under == policy:
            return run
        return replace(run, faults=(*run.faults, f"the router served under {served_under!r}"))

    async def _drive(self, port: RouterPort, policy: str, screen: Screen) -> ChatOutcome:
        with screen.progress(policy, self._workload.n_requests) as watch:
            return await ChatDriver(
                port,
                self._workload,
                in_flight=self._plan.in_flight,
                clock=RealClock(),
                watch=watch,
            ).run()

    def _judge(
        self,
        policy: str,
        outcome: ChatOutcome,
        *,
        hits: dict[str, Hits],
        pool_blocks: int,
        load_before: float,
    ) -> PolicyRun:
        bound = _bound(outcome, self._tokenizer, self._plan.block_size)
        total = total_hits(hits)
        return PolicyRun(
            policy=policy,
            seed=self._workload.seed,
            hit_rate=total.cached_tokens / max(total.prompt_tokens, 1),
            ttft=ttft_of(outcome),
            requests_per_worker={worker: hits[worker].requests for worker in sorted(hits)},
            hits=total,
            ceiling=bound,
            outcome=outcome,
            faults=(*outcome.errors, *find_faults(outcome, hits, bound, self._tokenizer)),
            pool_blocks=pool_blocks,
            load_before=load_before,
        )


async def stream_sample(port: RouterPort, screen: Screen) -> None:
    """One short answer, shown as it comes."""
    screen.say(f"  > {SAMPLE[-1].content}")
    async for piece in port.ask(SAMPLE, SAMPLE_TOKENS):
        screen.stream(piece.text)
    screen.stream("\n")


async def warm_up(port: RouterPort, in_flight: int) -> None:
    """The same for every policy and discarded: lazy set-up is done, worker speeds are known.

    Prompts differ from their first words on and from everything in the workload, so that they
    spread over the workers and leave nothing behind that the workload could hit.
    """
    texts = [text for persona in load_personas() for text in persona.pastes]
    for number in range(WARM_UP_ROUNDS):
        batch = [
            (
                ChatMessage("system", f"Warm-up {number}-{place}. Answer briefly."),
                ChatMessage("user", texts[(number * in_flight + place) % len(texts)]),
            )
            for place in range(in_flight)
        ]
        await asyncio.gather(*(_drain(port, messages) for messages in batch))


async def _drain(port: RouterPort, messages: tuple[ChatMessage, ...]) -> None:
    async for _ in port.ask(messages, WARM_UP_TOKENS):
        pass


async def _settled_hits(port: RouterPort, requests: int | None) -> dict[str, Hits]:
    """The counters, once they have counted `requests`; the last ones read if they never do."""
    hits = await port.hits()
    for _ in range(SETTLE_TRIES):
        if requests is None or sum(row.requests for row in hits.values()) >= requests:
            break
        await asyncio.sleep(SETTLE_PAUSE_S)
        hits = await port.hits()
    return hits


def total_hits(hits: dict[str, Hits]) -> Hits:
    rows = hits.values()
    return Hits(
        sum(row.requests for row in rows),
        sum(row.prompt_tokens for row in rows),
        sum(row.cached_tokens for row in rows),
        sum(row.predicted_tokens for row in rows),
        sum(row.recomputed_tokens for row in rows),
    )


def ttft_of(outcome: ChatOutcome) -> Ttft:
    times = [request.ttft_ms for request in outcome.requests if request.ttft_ms is not None]
    if not times:
        return Ttft(float("nan"), float("nan"), float("nan"))
    p50, p99 = np.percentile(times, [50, 99])
    return Ttft(float(np.mean(times)), float(p50), float(p99))


def find_faults(
    outcome: ChatOutcome, hits: dict[str, Hits], bound: Ceiling, tokenizer: ChatTokenizer
) -> list[str]:
    """Everything that client and engines should agree on and do not."""
    answered = [request for request in outcome.requests if request.error is None]
    total = total_hits(hits)
    faults = []
    if outcome.unsent:
        faults.append(f"{outcome.unsent} turns were never sent")
    if total.requests != len(answered) and not outcome.errors:
        faults.append(f"engines count {total.requests} requests, the client {len(answered)}")
    cached = sum(request.cached_tokens for request in answered)
    if total.cached_tokens != cached and not outcome.errors:
        faults.append(f"engines report {total.cached_tokens} cached tokens, answers say {cached}")
    served = Counter(request.worker_id for request in answered if request.attempts <= 1)
    if any(hits.get(worker, Hits()).requests < count for worker, count in served.items()):
        faults.append(f"answers came from {dict(served)}, engines count {hits}")
    if total.cached_tokens > bound.cached_tokens + _order_slack(outcome):
        faults.append(f"{total.cached_tokens} cached tokens are above the ceiling {bound}")
    today = datetime.date.today()
    wrong = sum(
        len(tokenizer.encode_chat(a.messages, today=today)) != a.prompt_tokens for a in answered
    )
    if wrong:
        faults.append(f"{wrong} prompts have other lengths at the worker than here")
    return faults


def _order_slack(outcome: ChatOutcome) -> int:
    """Tokens by which serving in another order than sent may pass the ceiling: one block each."""
    return 16 * len(outcome.requests)


def _bound(outcome: ChatOutcome, tokenizer: ChatTokenizer, block_size: int) -> Ceiling:
    return ceiling(
        (
            Exchange(
                tokenizer.encode_chat(request.messages, today=datetime.date.today()),
                _ids(request.token_ids),
            )
            for request in outcome.requests
            if request.error is None
        ),
        block_size,
    )


def _ids(token_ids: list[int]) -> Tokens:
    return np.asarray(token_ids, dtype=np.uint32)
