"""Simulation of a trace on the fleet: the real `RouterCore` and index, in virtual time.

Owns the order of things: arrivals, dispatches on their way, cache events on their way, steps that
end. The core hears of a worker only what a live one would tell it. The same inputs give the same
result: the only randomness is the core's seeded generator.
"""

import heapq
import random
import time
from collections import deque
from collections.abc import Iterable

import numpy as np

from radixroute.radix.ids import Holder, Keys, Numbers, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.replay.arrays import Floats
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.cache_events import cache_events
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.simulated_fleet import CacheWords, FleetStep, SimulatedFleet
from radixroute.replay.results import PROBE_TOKENS, CacheSums, RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.traces.programs.follow_ups import FollowUps
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes, sessions
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.actions import Action, Dispatch, Fail
from radixroute.router.messages.inputs import (
    TOKEN_BYTES,
    Delta,
    MemberSpec,
    PackedTokens,
    PromptFacts,
    RequestSpec,
    StepReport,
    WorkerFacts,
)
from radixroute.router.settings import RouterSettings

_NEVER = 1 << 62
_NO_LIMIT = 1 << 60
_FOREVER_S = 1e9


def simulate(
    trace: Trace, policy: str, scenario: Scenario, numbered: Prefixes | None = None
) -> RunResult:
    """One policy over one trace. Raises `InvalidShape` for requests no worker could hold.

    `numbered`: the trace's prefixes for this block size, if they are known already.
    """
    return Simulation(trace, policy, scenario, numbered).run()


class Simulation:
    """One run."""

    def __init__(
        self, trace: Trace, policy: str, scenario: Scenario, numbered: Prefixes | None
    ) -> None:
        from radixroute.replay.fleet.kernels import keys_of

        shape, conditions = scenario.shape, scenario.conditions
        self._trace, self._policy, self._scenario = trace, policy, scenario
        self._prefixes = numbered or prefixes(trace, shape.block_size)
        self._fleet = SimulatedFleet(trace, self._prefixes, shape, scenario.timing)
        self._fleet.listen()
        self._keys_of = keys_of
        self._session = sessions(trace)
        self._index = PrefixIndex()
        self._core = _core(policy, self._index, shape, scenario.seed)
        self._holders = [Holder(WorkerId(_name(w))) for w in range(shape.workers)]
        for holder in self._holders:
            self._index.join(holder)
        self._number_by_worker = {holder.worker: w for w, holder in enumerate(self._holders)}
        self._decided_ns = np.full(len(trace), -1, np.int64)
        self._predicted = np.zeros(len(trace), np.int64)
        self._arrival_ns = (trace.arrival_ns / scenario.speed).astype(np.int64)
        self._on_the_way: deque[tuple[int, int, int]] = deque()  # (ns, request, worker)
        self._unheard: deque[CacheWords] = deque()  # cache events still on their way
        self._kept: list[CacheWords] = []  # all cache events, if they are wanted
        # Only a prompt's length counts; all prompts are views of one.
        self._prompt = np.zeros(int(trace.input_tokens.max(initial=0)), np.uint32)
        self._columns = self._core.columns_of([holder.worker for holder in self._holders])
        self._event_delay_ns = round(conditions.event_delay_ms * 1e6)
        self._dispatch_ns = round(conditions.dispatch_ms * 1e6)
        self._follow_ups = FollowUps(trace)
        self._n_left = len(trace)

    def run(self) -> RunResult:
        started = time.perf_counter()
        arrivals = self._first_arrivals()
        fleet, core, now_ns = self._fleet, self._core, 0
        while self._n_left:
            until_ns = self._next_ns(arrivals)
            now_ns = fleet.advance(until_ns, stop=self._stop())
            self._report(fleet.take_reports(), arrivals)
            while self._on_the_way and self._on_the_way[0][0] <= now_ns:
                _, request, worker = self._on_the_way.popleft()
                fleet.submit(request, worker, now_ns)
            if not self._is_looked_at(arrivals, now_ns):
                continue
            self._hear_events(now_ns)
            core.stepped(self._columns, fleet.step_starts())
            while arrivals and arrivals[0][0] <= now_ns:
                _, request = heapq.heappop(arrivals)
                self._do(core.submit(self._spec(request), now_ns, is_last=False), now_ns)
            self._do(core.schedule_waiting(now_ns), now_ns)
        return self._result(time.perf_counter() - started)

    def _is_looked_at(self, arrivals: list[tuple[int, int]], now_ns: int) -> bool:
        """Whether anything is decided now: until then the router may be told all at once."""
        return self._core.n_waiting > 0 or (len(arrivals) > 0 and arrivals[0][0] <= now_ns)

    def _stop(self) -> int:
        """What must be told to the router at once: else it may hear of it when it next decides."""
        if self._core.n_waiting:
            return at.REPORT
        return at.FOLLOWED if self._follow_ups else at.NO_STOP

    def _first_arrivals(self) -> list[tuple[int, int]]:
        first = np.flatnonzero(self._trace.after < 0)
        arrivals = list(zip(self._arrival_ns[first].tolist(), first.tolist(), strict=True))
        heapq.heapify(arrivals)
        return arrivals

    def _next_ns(self, arrivals: list[tuple[int, int]]) -> int:
        now_ns = self._fleet.now_ns
        until_ns = arrivals[0][0] if arrivals else now_ns + 10**12
        if self._on_the_way:
            until_ns = min(until_ns, self._on_the_way[0][0])
        wake_ns = self._core.wake_ns
        if wake_ns is not None and wake_ns > now_ns:
            until_ns = min(until_ns, wake_ns)
        return until_ns

    def _hear_events(self, now_ns: int) -> None:
        """Cache changes that have reached the router by now."""
        unheard, heard_ns = self._unheard, now_ns - self._event_delay_ns
        for batch in self._fleet.take_events():
            unheard.append(batch)
            if self._scenario.keeps_events:
                self._kept.append(batch)
        while unheard:
            batch = unheard.popleft()
            n = int(np.searchsorted(batch.rows[:, 0], heard_ns, "right"))
            self._hear(batch.rows[:n], batch.words)
            if n < len(batch.rows):
                unheard.appendleft(CacheWords(batch.rows[n:], batch.words))
                return

    def _hear(self, rows: Numbers, words: Keys) -> None:
        core, holders = self._core, self._holders
        self._index.apply_rows(rows, words)
        for _, worker, start, end in rows.tolist():
            worker_id = holders[worker].worker
            if core.expects_blocks(worker_id):
                for keys in _stored(words[start:end]):
                    core.stored(worker_id, keys)

    def _report(self, reports: Iterable[FleetStep], arrivals: list[tuple[int, int]]) -> None:
        """What the workers' sessions say."""
        conditions, core = self._scenario.conditions, self._core
        for report in reports:
            worker_id = self._holders[report.worker].worker
            if report.decode_steps:
                mean_ms = report.decode_ns / report.decode_steps / 1e6
                core.observe_decode(
                    worker_id,
                    step_ms=mean_ms * conditions.decode_bias,
                    decode_tokens=report.decoded / report.decode_steps,
                    steps=report.decode_steps,
                    now_ns=report.end_ns,
                )
            bias = conditions.prefill_bias if report.prefill_tokens else conditions.decode_bias
            deltas = [self._delta(request, kind) for request, kind in report.items]
            for request, kind in report.items:
                if kind & at.LAST_TOKEN:
                    self._n_left -= 1
                    for follower, end_ns in self._follow_ups.ended(request, report.end_ns):
                        due_ns = end_ns + int(self._arrival_ns[follower])
                        self._arrival_ns[follower] = due_ns
                        heapq.heappush(arrivals, (due_ns, follower))
            step = StepReport(
                report.step_ns / 1e6 * bias, report.prefill_tokens, report.decodes, tuple(deltas)
            )
            self._do(core.step(worker_id, step, report.end_ns, schedules=False), report.end_ns)

    def _delta(self, request: int, kind: int) -> Delta:
        row = self._fleet.requests[request]
        n_output = int(row[at.OUTPUT])
        facts = None
        if kind & at.FIRST_TOKEN:
            cached = int(row[at.CACHED])
            facts = PromptFacts(int(row[at.PROMPT]), cached, int(row[at.RECOMPUTED]))
        position = 0 if kind & at.FIRST_TOKEN else 1
        end = n_output if kind & at.LAST_TOKEN else 1
        return Delta(
            request_id=str(request),
            attempt=1,
            position=position,
            token_ids=PackedTokens(bytes(TOKEN_BYTES * (end - position))),
            text="",
            finish=FinishReason.LENGTH if kind & at.LAST_TOKEN else None,
            prompt=facts,
        )

    def _spec(self, request: int) -> RequestSpec:
        first, end = self._prefixes.first[request : request + 2].tolist()
        n_prompt, session = int(self._trace.input_tokens[request]), int(self._session[request])
        arrival_ns = int(self._arrival_ns[request])
        keys = np.empty(end - first, np.uint64)
        self._keys_of(self._prefixes.nodes[first:end], keys)
        return RequestSpec(
            request_id=str(request),
            prompt=self._prompt[:n_prompt],
            keys=keys,
            sampling=SamplingParams(max_tokens=int(self._trace.output_tokens[request])),
            policy=self._policy,
            arrival_ns=arrival_ns,
            deadline_ns=_NEVER,
            session=None if session < 0 else session,
        )

    def _do(self, actions: Iterable[Action], now_ns: int) -> None:
        for action in actions:
            match action:
                case Dispatch(worker_id=worker_id, spec=spec):
                    request, worker = int(spec.request_id), self._number_by_worker[worker_id]
                    self._decided_ns[request] = now_ns
                    self._predicted[request] = self._core.predicted_tokens(spec.request_id)
                    if self._dispatch_ns:
                        due_ns = now_ns + self._dispatch_ns
                        self._on_the_way.append((due_ns, request, worker))
                    else:
                        self._fleet.submit(request, worker, now_ns)
                case Fail(request_id=request_id, failure=failure):
                    raise InvalidShape(
                        f"request {request_id} failed in the router: {failure.value}"
                    )

    def _result(self, wall_s: float) -> RunResult:
        rows = self._fleet.requests
        events = None
        if self._scenario.keeps_events:
            events = cache_events(self._kept, self._prefixes, self._fleet.n_unique)
        return RunResult(
            trace=self._trace,
            policy=self._policy,
            workers=self._scenario.shape.workers,
            speed=self._scenario.speed,
            seed=self._scenario.seed,
            block_size=self._scenario.shape.block_size,
            arrival_ns=self._arrival_ns,
            worker=rows[:, at.WORKER].copy(),
            decided_ns=self._decided_ns,
            admitted_ns=rows[:, at.ADMITTED_NS].copy(),
            first_ns=rows[:, at.FIRST_NS].copy(),
            finish_ns=rows[:, at.FINISH_NS].copy(),
            cached_tokens=rows[:, at.CACHED].copy(),
            predicted_tokens=self._predicted,
            recomputed_tokens=rows[:, at.RECOMPUTED].copy(),
            wall_s=wall_s,
            events=events,
            eviction_policy=self._scenario.shape.eviction_policy,
            counters={
                "preemptions": int(self._fleet.workers[:, at.N_PREEMPTED].sum()),
                "evicted_blocks": int(self._fleet.workers[:, at.N_EVICTED].sum()),
            },
            idle_ns=self._idle_ns(),
            learned_ms=self._learned_ms(),
            caches=self._caches(),
        )

    def _idle_ns(self) -> Numbers:
        sums = [self._core.idle_of(holder.worker) for holder in self._holders]
        return np.array([[s.planned_ns, s.avoidable_ns, s.starting_ns] for s in sums], np.int64)

    def _learned_ms(self) -> Floats:
        speeds = [self._core.speed_of(holder.worker) for holder in self._holders]
        return np.array([s.prefill_ms(PROBE_TOKENS) for s in speeds])

    def _caches(self) -> CacheSums:
        workers, shape = self._fleet.workers, self._scenario.shape
        total = np.full(shape.workers, shape.kv_blocks, np.int64)
        return CacheSums(total, total - workers[:, at.N_FREE], workers[:, at.N_EVICTED].copy())


def _core(policy: str, index: PrefixIndex, shape: FleetShape, seed: int) -> RouterCore:
    settings = RouterSettings(
        router_id="replay",
        policy=policy,
        # Whatever is asked is served: nothing is refused or expires.
        max_waiting=_NO_LIMIT,
        max_waiting_tokens=_NO_LIMIT,
        max_in_flight=_NO_LIMIT,
        max_in_flight_bytes=_NO_LIMIT,
        max_in_flight_tokens=_NO_LIMIT,
        decision_log_len=16,
        request_log_bytes=1,  # nobody asks for it
        dispatch_lead_ms=0.0,
        expected_ttl_s=_FOREVER_S,
    )
    core = RouterCore(settings, index, random.Random(seed))  # noqa: S311 - reproducible, not secret
    names = [_name(w) for w in range(shape.workers)]
    core.set_members([MemberSpec(WorkerId(name), f"{name}:1", 1) for name in names], 0)
    for name in names:
        facts = WorkerFacts(
            worker_id=WorkerId(name),
            epoch="1",
            block_size=shape.block_size,
            eos_token_ids=frozenset(),
            kv_blocks_total=shape.kv_blocks,
            max_batched_tokens=shape.max_num_batched_tokens,
            max_num_seqs=shape.max_num_seqs,
            max_waiting=_NO_LIMIT,
        )
        core.joined(facts, 0)
        core.cache_believed(facts.worker_id, is_fresh=True)
    return core


def _name(worker: int) -> str:
    return f"w{worker:04d}"


def _stored(words: Keys) -> Iterable[Keys]:
    """The runs of keys that packed words store."""
    from radixroute.radix.index.layout import PACKED_HEAD, PACKED_STORE

    start = 0
    while start < len(words):
        end = start + PACKED_HEAD + int(words[start + 2])
        if int(words[start]) & 0xFF == PACKED_STORE:
            yield words[start + PACKED_HEAD : end]
        start = end
