"""Simulated engines behind the real `RouterCore`, in virtual time: what an overload leaves.

No sockets and no sleep: goodput is the queue's doing, not this machine's. Requests come at a steady
rate with exponential gaps, each with a deadline; an engine computes prompts in chunks beside the
requests that decode, as ours does.
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from radixroute.events.wire.records import LoadReport
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.actions import Abort, Action, Dispatch, Emit, Fail, Failure
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

S: Final = 1_000_000_000
MS: Final = 1_000_000
WORKERS: Final = 4
SEATS, QUEUE, CHUNK = 16, 8, 2048
# Some four seconds of the fleet's work: how deep the queue is is how long it takes to get over it.
MAX_WAITING: Final = 150
DEADLINE_S: Final = 10.0
OUTPUT: Final = 64
BLOCK: Final = 64


@dataclass(slots=True)
class _Running:
    spec: RequestSpec
    attempt: int
    prefill_left: int
    position: int = 0


@dataclass(slots=True)
class _Engine:
    running: dict[str, _Running] = field(default_factory=dict)
    is_stepping: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one load."""

    asked_per_s: float
    served_per_s: float  # whole answers within their deadlines, while the load lasted
    refused: int
    expired: int
    other: int  # must be 0: nothing else may become of a request
    ttft_p99_ms: float  # of those served
    recovery_s: float  # from the end of the load until nobody waits


class Overload:
    """One load over one fleet."""

    def __init__(self, per_s: float, seconds: float, *, seed: int = 1) -> None:
        settings = RouterSettings(router_id="bench", max_waiting=MAX_WAITING)
        index = PrefixIndex()
        self._core = RouterCore(settings, index, random.Random(seed))
        self._rng = np.random.default_rng(seed)
        self._engines = {WorkerId(f"w{n}"): _Engine() for n in range(WORKERS)}
        self._heap: list[tuple[int, int, str, Any]] = []
        self._order = 0
        self._ends: Counter[str] = Counter()
        self._ttft_ms: list[float] = []
        self._served_in_time = 0
        self._end_ns = round(seconds * S)
        self._per_s, self._seconds = per_s, seconds
        self._join(index)

    def run(self) -> Outcome:
        for at_ns, spec in self._arrivals():
            self._at(at_ns, "arrival", spec)
        self._at(250 * MS, "beat", None)
        idle_ns, now_ns = None, 0
        while self._heap:
            now_ns, _, kind, what = heapq.heappop(self._heap)
            self._happen(kind, what, now_ns)
            if now_ns >= self._end_ns and not self._core.n_waiting and idle_ns is None:
                idle_ns = now_ns
        refused, expired = self._ends["queue_full"] + self._ends["hopeless"], self._ends["deadline"]
        known = {"queue_full", "hopeless", "deadline", "served"}
        return Outcome(
            asked_per_s=self._per_s,
            served_per_s=self._served_in_time / self._seconds,
            refused=refused,
            expired=expired,
            other=sum(n for end, n in self._ends.items() if end not in known),
            ttft_p99_ms=float(np.percentile(self._ttft_ms, 99)) if self._ttft_ms else 0.0,
            recovery_s=((idle_ns or now_ns) - self._end_ns) / S,
        )

    def _arrivals(self) -> Iterator[tuple[int, RequestSpec]]:
        at_s, n = 0.0, 0
        while (at_s := at_s + float(self._rng.exponential(1 / self._per_s))) < self._seconds:
            n += 1
            tokens = int(self._rng.integers(200, 4000))
            yield round(at_s * S), self._spec(f"r{n}", tokens, round(at_s * S))

    def _spec(self, request_id: str, tokens: int, at_ns: int) -> RequestSpec:
        keys = self._rng.integers(1, 1 << 62, tokens // BLOCK, np.uint64)
        return RequestSpec(
            request_id=request_id,
            prompt=np.zeros(tokens, np.uint32),
            keys=keys,
            sampling=SamplingParams(max_tokens=OUTPUT),
            policy="radix",
            arrival_ns=at_ns,
            deadline_ns=at_ns + round(DEADLINE_S * S),
        )

    def _join(self, index: PrefixIndex) -> None:
        self._core.set_members([MemberSpec(w, f"{w}:1", 1) for w in self._engines], 0)
        for worker_id in self._engines:
            index.join(Holder(worker_id))
            facts = WorkerFacts(
                worker_id,
                "1",
                BLOCK,
                frozenset(),
                4096,
                CHUNK,
                max_num_seqs=SEATS,
                max_waiting=QUEUE,
            )
            self._core.joined(facts, 0)

    def _at(self, at_ns: int, kind: str, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at_ns, self._order, kind, what))

    def _happen(self, kind: str, what: Any, now_ns: int) -> None:
        match kind, what:
            case "arrival", RequestSpec() as spec:
                self._do(self._core.submit(spec, now_ns), now_ns)
            case "step", (worker_id, step_ms, prefill):
                self._step(WorkerId(worker_id), step_ms, prefill, now_ns)
            case _:
                self._beat(now_ns)

    def _beat(self, now_ns: int) -> None:
        for worker_id in self._engines:
            self._do(self._core.heartbeat(worker_id, LoadReport(0.0, 4096, 0), now_ns), now_ns)
        self._do(self._core.tick(now_ns), now_ns)
        if now_ns < self._end_ns or self._core.n_running:
            self._at(now_ns + 250 * MS, "beat", None)

    def _begin(self, worker_id: WorkerId, now_ns: int) -> None:
        engine = self._engines[worker_id]
        if engine.is_stepping or not engine.running:
            return
        room, prefill, decoding = CHUNK, [], 0
        for running in list(engine.running.values())[:SEATS]:
            if running.prefill_left:
                n = min(room, running.prefill_left)
                room -= n
                if n:
                    prefill.append((running.spec.request_id, n))
            else:
                decoding += 1
        step_ms = 5.0 + 0.03 * (CHUNK - room) + 0.5 * decoding
        engine.is_stepping = True
        self._at(now_ns + round(step_ms * MS), "step", (worker_id, step_ms, prefill))

    def _step(
        self, worker_id: WorkerId, step_ms: float, prefill: list[tuple[str, int]], now_ns: int
    ) -> None:
        engine = self._engines[worker_id]
        engine.is_stepping = False
        computed = dict(prefill)
        deltas = []
        for request_id, running in list(engine.running.items())[:SEATS]:
            running.prefill_left -= computed.get(request_id, 0)
            if not running.prefill_left:
                deltas.append(self._token(engine, running))
        n_prefill = sum(computed.values())
        report = StepReport(step_ms, n_prefill, len(deltas), tuple(deltas))
        self._do(self._core.step(worker_id, report, now_ns), now_ns)
        self._begin(worker_id, now_ns)

    def _token(self, engine: _Engine, running: _Running) -> Delta:
        spec, position = running.spec, running.position
        running.position += 1
        is_last = running.position == OUTPUT
        if is_last:
            del engine.running[spec.request_id]
        return Delta(
            spec.request_id,
            running.attempt,
            position,
            PackedTokens(b"\1" * TOKEN_BYTES),
            "x",
            FinishReason.LENGTH if is_last else None,
            None if position else PromptFacts(len(spec.prompt), 0, 0),
        )

    def _do(self, actions: list[Action], now_ns: int) -> None:
        for action in actions:
            match action:
                case Dispatch(worker_id=worker_id, spec=spec):
                    engine = self._engines[worker_id]
                    engine.running[spec.request_id] = _Running(
                        spec, action.attempt, len(spec.prompt)
                    )
                    self._begin(worker_id, now_ns)
                case Abort(worker_id=worker_id, request_id=request_id):
                    self._engines[worker_id].running.pop(request_id, None)
                case Fail(failure=failure):
                    self._ends[_name(failure)] += 1
                case Emit(finish=finish, usage=usage) if finish is not None and usage is not None:
                    self._ends["served"] += 1
                    self._served_in_time += now_ns <= self._end_ns
                    self._ttft_ms.append(usage.ttft_ms)


def _name(failure: Failure) -> str:
    return failure.value
