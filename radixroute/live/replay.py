"""A trace against a running cluster, open loop: each request at its time, whatever is under way.

Owns the sender's clock and the streams of one run. Times are taken here, at the client: a request
begins when it is sent, and how long after its time that was is kept beside it (`lateness_ns`).
Never retries: a request that fails counts as unanswered, by its reason.
"""

import asyncio
import heapq
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from radixroute.answer import Usage
from radixroute.client import AsyncRouterClient
from radixroute.errors import FrontDoorError
from radixroute.live.cluster import ClusterFacts, idle_since
from radixroute.live.request_log_reader import RequestLogReader
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Numbers, Tokens
from radixroute.replay.results import LIVE, CacheSums, RunResult
from radixroute.replay.traces.programs.follow_ups import FollowUps
from radixroute.replay.traces.reshape import scaled
from radixroute.replay.traces.session_ends import SessionEnds, session_ends
from radixroute.replay.traces.token_ids import TokenSource
from radixroute.replay.traces.trace import Trace
from radixroute.request.limits import PartialSampling

_REQUEST_ID = re.compile(r" \(request [0-9a-f]+\)")  # as the router's errors name it
_POLL_S = 1.0  # of the request log: it must not overflow between two looks
_STARTS_S = 0.05  # from the first look at the clock to the first request


@dataclass(frozen=True, slots=True)
class LiveRun:
    """How one run is made."""

    policy: str
    speed: float = 1.0
    seed: int = 0
    salt: int = 0  # of the tokens, beside `seed`: two runs of one command must share no prompt
    session_ends: float = 0.0  # share of sessions whose last request says that it is


@dataclass(slots=True)
class LiveResult:
    """A result, and what went wrong on the way."""

    result: RunResult
    failures: Counter[str] = field(default_factory=Counter)  # by what the router said
    short_outputs: int = 0  # answers with fewer tokens than the trace says
    missed_log: int = 0  # requests whose predicted tokens the router no longer knew
    restarts: int = 0  # of the router, during the run
    start_ns: int = 0  # of the result's times, on this machine's monotonic clock


async def replay_live(
    client: AsyncRouterClient,
    trace: Trace,
    cluster: ClusterFacts,
    run: LiveRun,
    tell: Callable[[int], None],
) -> LiveResult:
    """`tell`: requests ended so far."""
    reader = RequestLogReader()
    reader.skip(await client.request_log(0))
    before = await client.list_workers()
    sender = _Sender(client, trace, cluster, run, tell)
    polling = asyncio.create_task(_poll(client, reader, sender))
    try:
        await sender.run()
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
    await _drain(client, reader, sender)
    return sender.result(reader, idle_since(before, await client.list_workers(), cluster.workers))


class _Sender:
    """One run; columns have shape (requests,)."""

    def __init__(
        self,
        client: AsyncRouterClient,
        trace: Trace,
        cluster: ClusterFacts,
        run: LiveRun,
        tell: Callable[[int], None],
    ) -> None:
        self._client, self._trace, self._cluster, self._run = client, trace, cluster, run
        self._tell = tell
        self._timed = scaled(trace, run.speed)
        ends = session_ends(trace, SessionEnds(run.session_ends), run.seed)
        self._last_of = np.zeros(len(trace), np.int64) if ends is None else ends
        self._tokens = TokenSource(trace, cluster.vocab_size, run.seed * 1_000_003 + run.salt)
        n = len(trace)
        self._due, self._sent, self._first, self._finish = np.full((4, n), -1, np.int64)
        self._decided = np.full(n, -1, np.int64)
        self._worker = np.full(n, -1, np.int64)
        self._cached, self._predicted, self._recomputed = np.zeros((3, n), np.int64)
        self._number_by_worker = {name: w for w, name in enumerate(cluster.workers)}
        self._request_by_id: dict[str, int] = {}
        self._predicted_by_id: dict[str, int] = {}  # of every request that ended meanwhile
        self._failures: Counter[str] = Counter()
        self._n_short = 0
        self._n_ended = 0
        self._queue: list[tuple[int, int]] = []  # (due ns, request) that wait for their time
        self._follow_ups = FollowUps(self._timed)
        self._changed = asyncio.Event()
        self._start_ns = 0
        self._wall_s = 0.0

    async def run(self) -> None:
        first = np.flatnonzero(self._timed.after < 0)
        arrivals = self._timed.arrival_ns[first].tolist()
        self._queue += zip(arrivals, first.tolist(), strict=True)
        heapq.heapify(self._queue)
        self._start_ns = time.perf_counter_ns() + round(_STARTS_S * 1e9)
        async with asyncio.TaskGroup() as tasks:
            n_sent = 0
            while n_sent < len(self._trace):
                request, prompt = await self._next()
                tasks.create_task(self._ask(request, prompt))
                n_sent += 1
        self._wall_s = self._now_ns() / 1e9

    async def _next(self) -> tuple[int, Tokens]:
        """The next request, at its time. A follow-up may come before what was next."""
        while True:
            self._changed.clear()
            if not self._queue:
                await self._changed.wait()
                continue
            due_ns, request = self._queue[0]
            prompt = self._tokens.prompt(request)  # made before its time, not at it
            wait_s = (due_ns - self._now_ns()) / 1e9
            if wait_s > 0:
                try:
                    await asyncio.wait_for(self._changed.wait(), wait_s)
                    continue
                except TimeoutError:
                    pass
            heapq.heappop(self._queue)
            self._due[request] = due_ns
            return request, prompt

    async def _ask(self, request: int, prompt: Tokens) -> None:
        n_output = int(self._trace.output_tokens[request])
        sampling = PartialSampling(temperature=0.0, max_tokens=n_output, ignore_eos=True)
        last_of = int(self._last_of[request]) or None
        self._sent[request] = self._now_ns()
        n_got = 0
        try:
            async for delta in self._client.generate(
                prompt, sampling, policy=self._run.policy, last_of_session=last_of
            ):
                if delta.token_ids:
                    if not n_got:
                        self._first[request] = self._now_ns()
                        self._request_by_id[delta.request_id] = request
                    n_got += len(delta.token_ids)
                if delta.finish is not None:
                    self._finish[request] = self._now_ns()
                if delta.usage is not None:
                    self._note(request, delta.usage)
            self._n_short += n_got < n_output
        except FrontDoorError as error:
            self._failures[_REQUEST_ID.sub("", str(error))] += 1
            self._finish[request] = -1
        self._end(request)

    def _note(self, request: int, usage: Usage) -> None:
        self._worker[request] = self._number_by_worker.get(usage.worker_id, -1)
        self._cached[request] = usage.cached_tokens
        self._recomputed[request] = usage.recomputed_tokens
        self._decided[request] = self._sent[request] + round(usage.queue_ms * 1e6)

    def _end(self, request: int) -> None:
        """Answered or not: who follows it comes a while after."""
        now_ns = self._now_ns()
        for follower, end_ns in self._follow_ups.ended(request, now_ns):
            heapq.heappush(self._queue, (end_ns + int(self._timed.arrival_ns[follower]), follower))
            self._changed.set()
        self._n_ended += 1
        self._tell(self._n_ended)

    def logged(self, entries: Sequence[pb.EndedRequest]) -> None:
        """What the router thought of these requests; an answer may be heard later than its end."""
        for entry in entries:
            self._predicted_by_id[entry.request_id] = entry.predicted_tokens

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._start_ns

    def result(self, reader: RequestLogReader, idle_ns: Numbers | None) -> LiveResult:
        unknown = 0
        for request_id, request in self._request_by_id.items():
            predicted = self._predicted_by_id.get(request_id)
            unknown += predicted is None
            self._predicted[request] = predicted or 0
        found = RunResult(
            trace=self._trace,
            policy=self._run.policy,
            workers=len(self._cluster.workers),
            speed=self._run.speed,
            seed=self._run.seed,
            block_size=self._cluster.block_size,
            arrival_ns=self._sent,
            worker=self._worker,
            decided_ns=self._decided,
            admitted_ns=np.full(len(self._trace), -1, np.int64),
            first_ns=self._first,
            finish_ns=self._finish,
            cached_tokens=self._cached,
            predicted_tokens=self._predicted,
            recomputed_tokens=self._recomputed,
            wall_s=self._wall_s,
            source=LIVE,
            lateness_ns=np.maximum(0, self._sent - self._due),
            idle_ns=idle_ns,
            caches=CacheSums(np.full(len(self._cluster.workers), self._cluster.kv_blocks)),
        )
        return LiveResult(
            found,
            self._failures,
            self._n_short,
            unknown,
            reader.restarts,
            self._start_ns,
        )


async def _poll(client: AsyncRouterClient, reader: RequestLogReader, sender: _Sender) -> None:
    while True:
        await asyncio.sleep(_POLL_S)
        try:
            await _drain(client, reader, sender)
        except FrontDoorError:
            continue  # the requests themselves will say so


async def _drain(client: AsyncRouterClient, reader: RequestLogReader, sender: _Sender) -> None:
    while True:
        sender.logged(reader.take(await client.request_log(reader.after)))
        if not reader.is_behind:
            return
