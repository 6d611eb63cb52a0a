"""World of a simulation: a fleet in virtual time, the routers over it, and what lies between them.

Owns the order of things while time passes: dispatches on their way, cache events on their way,
steps that end, what becomes of the fleet, heartbeats. A core hears of a worker only what a live one
would tell it. Which requests there are, and when they come, is the business of whoever drives it:
`simulate` has them all from a trace, `stream` learns of them as it goes on. The same inputs give
the same results: the only randomness is the cores' seeded generators.
"""

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.arrays import Floats
from radixroute.replay.changes import DIE, DRAIN, JOIN, FleetChange, absent_at_first, in_order
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.simulated_fleet import CacheWords, FleetStep, SimulatedFleet
from radixroute.replay.routers.load_reports import LoadReports, Told
from radixroute.replay.routers.simulated_requests import RequestsOfRun
from radixroute.replay.routers.simulated_router import SimulatedRouter
from radixroute.replay.scenario import Scenario
from radixroute.router.messages.actions import Action, Disconnect, Dispatch, Drop, Fail, Failure
from radixroute.router.messages.inputs import StepReport

_LOOK_NS = 1_000_000_000  # between two looks at what is learned


class _Sent(NamedTuple):
    """A dispatch on its way to its worker."""

    due_ns: int
    request: int
    worker: int
    seq: int  # of its router, to this worker


class SimulatedWorld(ABC):
    """One run of one policy. Requests are numbers: rows of the fleet's table."""

    def __init__(
        self, policy: str, scenario: Scenario, fleet: SimulatedFleet, requests: RequestsOfRun
    ) -> None:
        shape, conditions, routers = scenario.shape, scenario.conditions, scenario.routers
        self._policy, self._scenario, self._fleet = policy, scenario, fleet
        fleet.listen()
        self._requests = requests
        self._changes = deque(in_order(scenario.changes))
        present = sorted({*range(shape.workers)} - absent_at_first(scenario.changes))
        self._routers = [SimulatedRouter(n, policy, scenario, present) for n in range(routers.n)]
        self._number_by_worker = {self._routers[0].worker_id(w): w for w in range(shape.workers)}
        self._decided_ns = np.full(len(fleet.requests), -1, np.int64)
        self._predicted = np.zeros(len(fleet.requests), np.int64)
        self._arrivals: list[tuple[int, int]] = []  # a heap: when each request that will come does
        self._on_the_way: deque[_Sent] = deque()
        self._draining: dict[int, int] = {}  # workers that leave: routers that have not let them go
        self._unheard: deque[CacheWords] = deque()  # cache events still on their way
        self._kept: list[CacheWords] = []  # all cache events, if they are wanted
        self._learned: list[tuple[int, Floats]] = []  # what speeds were thought to be, if wanted
        self._event_delay_ns = round(conditions.event_delay_ms * 1e6)
        self._dispatch_ns = round(conditions.dispatch_ms * 1e6)
        self._client_ns = round(conditions.client_ms * 1e6)
        ids = [router.router_id for router in self._routers]
        self._loads = LoadReports(fleet, ids, routers.heartbeat_ms) if len(ids) > 1 else None

    @abstractmethod
    def _ended(self, request: int, end_ns: int) -> None:
        """Its last token came, from its worker, at that time."""

    def _failed(self, request: int, failure: Failure, now_ns: int) -> None:
        """Its router gave it up."""
        raise InvalidShape(f"request {request} failed in the router: {failure.value}")

    @property
    def _stops_at_ends(self) -> bool:
        """Whether an end may bring a request that nobody knows of yet."""
        return False

    def _pass(self) -> None:
        """Time goes on to the next thing that happens."""
        self._happen(self._fleet.advance(self._next_ns(), stop=self._stop()))

    def _happen(self, now_ns: int) -> None:
        """All that happens now, when something does."""
        arrivals = self._arrivals
        self._report(self._fleet.take_reports())
        while self._on_the_way and self._on_the_way[0].due_ns <= now_ns:
            self._arrive(self._on_the_way.popleft(), now_ns)
        while self._changes and self._changes[0].at_ns <= now_ns:
            self._change(self._changes.popleft(), now_ns)
        if self._is_looked_at(now_ns):
            self._look(now_ns)
            while arrivals and arrivals[0][0] <= now_ns:
                _, request = heapq.heappop(arrivals)
                router = self._routers[self._requests.router_of[request]]
                actions = router.core.submit(self._requests.spec(request), now_ns, is_last=False)
                self._do(actions, router, now_ns)
            for router in self._routers:
                self._do(router.core.schedule_waiting(now_ns), router, now_ns)
        while self._loads is not None and self._loads.due_ns <= now_ns:
            self._beat(self._loads, now_ns)

    def _is_looked_at(self, now_ns: int) -> bool:
        """Whether anything is decided now: until then the routers may be told all at once."""
        return self._is_awaited or (len(self._arrivals) > 0 and self._arrivals[0][0] <= now_ns)

    @property
    def _is_awaited(self) -> bool:
        """Some request waits at its router."""
        for router in self._routers:  # noqa: SIM110 - a generator takes as long as the rest of a pass
            if router.core.n_waiting:
                return True
        return False

    def _stop(self) -> int:
        """What must be told to the routers at once: else they may hear of it when they decide."""
        if self._is_awaited:
            return at.REPORT
        return at.FOLLOWED if self._stops_at_ends else at.NO_STOP

    def _next_ns(self) -> int:
        now_ns, arrivals = self._fleet.now_ns, self._arrivals
        until_ns = arrivals[0][0] if arrivals else now_ns + 10**12
        if self._on_the_way:
            until_ns = min(until_ns, self._on_the_way[0].due_ns)
        if self._changes:
            until_ns = min(until_ns, self._changes[0].at_ns)
        if self._loads is not None:
            until_ns = min(until_ns, self._loads.due_ns)
        for router in self._routers:
            wake_ns = router.core.wake_ns
            if wake_ns is not None and wake_ns > now_ns:
                until_ns = min(until_ns, wake_ns)
        return until_ns

    def _look(self, now_ns: int) -> None:
        """Routers hear of what happened by now, before they decide."""
        self._hear_events(now_ns)
        starts = self._fleet.step_starts()
        for router in self._routers:
            loads = self._loads
            among = None if loads is None else loads.heard_by(router.number)
            router.stepped(starts, among)
        if self._scenario.keeps_speeds and (
            not self._learned or now_ns >= self._learned[-1][0] + _LOOK_NS
        ):
            self._learned.append((now_ns, self._routers[0].prefill_ms()))

    def _hear_events(self, now_ns: int) -> None:
        """Cache changes that have reached the routers by now."""
        unheard, heard_ns = self._unheard, now_ns - self._event_delay_ns
        for batch in self._fleet.take_events():
            unheard.append(batch)
            if self._scenario.keeps_events:
                self._kept.append(batch)
        while unheard:
            batch = unheard.popleft()
            n = int(np.searchsorted(batch.rows[:, 0], heard_ns, "right"))
            for router in self._routers:
                router.hear(batch.rows[:n], batch.words)
            if n < len(batch.rows):
                unheard.appendleft(CacheWords(batch.rows[n:], batch.words))
                return

    def _report(self, reports: Iterable[FleetStep]) -> None:
        """What the workers' sessions say."""
        conditions, requests = self._scenario.conditions, self._requests
        for report in reports:
            told: list[Told]
            if self._loads is None:
                told = [(0, True, report.items)]
            else:
                told = self._loads.listeners(report, requests.router_of)
            for request, kind in report.items:
                if kind & at.LAST_TOKEN:
                    self._end(request, report)
            for number, heard_before, items in told:
                router = self._routers[number]
                worker_id, core = router.worker_id(report.worker), router.core
                if report.decode_steps and heard_before:
                    mean_ms = report.decode_ns / report.decode_steps / 1e6
                    core.observe_decode(
                        worker_id,
                        step_ms=mean_ms * conditions.decode_bias,
                        decode_tokens=report.decoded / report.decode_steps,
                        steps=report.decode_steps,
                        now_ns=report.end_ns,
                    )
                bias = conditions.prefill_bias if report.prefill_tokens else conditions.decode_bias
                deltas = tuple(
                    [requests.delta(request, kind, self._fleet) for request, kind in items]
                )
                step = StepReport(
                    report.step_ns / 1e6 * bias, report.prefill_tokens, report.decodes, deltas
                )
                actions = core.step(worker_id, step, report.end_ns, schedules=False)
                self._do(actions, router, report.end_ns)

    def _end(self, request: int, report: FleetStep) -> None:
        if self._loads is not None:
            self._loads.ended(request, report.worker)
        self._ended(request, report.end_ns)

    def _do(self, actions: Iterable[Action], router: SimulatedRouter, now_ns: int) -> None:
        for action in actions:
            match action:
                case Dispatch(worker_id=worker_id, spec=spec):
                    request = self._requests.number_of(spec.request_id)
                    worker = self._number_by_worker[worker_id]
                    self._requests.sent(request, action)
                    if not self._fleet.attempts.was_admitted(request):
                        self._decided_ns[request] = now_ns
                        self._predicted[request] = router.core.predicted_tokens(spec.request_id)
                    due_ns = now_ns + self._dispatch_ns
                    sent = _Sent(due_ns, request, worker, action.dispatch_seq)
                    if self._dispatch_ns:
                        self._on_the_way.append(sent)
                    else:
                        self._arrive(sent, now_ns)
                case Fail(request_id=request_id, failure=failure):
                    self._failed(self._requests.number_of(request_id), failure, now_ns)
                case Drop(worker_id=worker_id):
                    router.dropped(self._number_by_worker[worker_id])
                case Disconnect(worker_id=worker_id):
                    self._leave(self._number_by_worker[worker_id], router)

    def _arrive(self, sent: _Sent, now_ns: int) -> None:
        """At its worker."""
        _, request, worker, seq = sent
        self._fleet.submit(request, worker, now_ns)
        if self._loads is not None:
            likely = int(self._predicted[request])
            self._loads.came(request, worker, self._requests.router_of[request], seq, likely)

    def _beat(self, loads: LoadReports, now_ns: int) -> None:
        """One worker's heartbeat, heard by all routers, behind what its cache told before."""
        worker, said = loads.beat()
        if said is not None:
            self._hear_events(now_ns)
            for router in self._routers:
                self._do(router.heartbeat(worker, said, now_ns), router, now_ns)

    # -- the fleet changes

    def _change(self, change: FleetChange, now_ns: int) -> None:
        """It happens now; what routers can know of it they hear at once."""
        worker = change.worker
        if change.kind not in (JOIN, DRAIN, DIE):
            self._fleet.set_slowness(worker, change.slowness)
            return
        self._look(now_ns)
        if change.kind == DIE:
            self._die(worker, now_ns)
            return
        if worker in self._draining:
            raise InvalidShape(
                f"worker {worker} joins at {change.at_s:g} s and has not finished what it had when"
                " it was to leave: let it join later"
            )
        if change.kind == DRAIN:
            self._draining[worker] = len(self._routers)
        for router in self._routers:
            move = router.drain if change.kind == DRAIN else router.join
            self._do(move(worker, now_ns), router, now_ns)

    def _die(self, worker: int, now_ns: int) -> None:
        """What it put out by now has been passed on; its sessions break, and its requests go on
        elsewhere."""
        lost = self._fleet.die(worker)
        self._on_the_way = deque(sent for sent in self._on_the_way if sent.worker != worker)
        if self._loads is not None:
            self._loads.began_anew(worker)
        for router in self._routers:
            deltas = [
                delta
                for request, emitted in lost
                if self._requests.router_of[request] == router.number
                and (delta := self._requests.delta_before_death(request, emitted)) is not None
            ]
            # It says nothing of a step: none ended now.
            last = StepReport(0.0, 0, 0, tuple(deltas))
            worker_id = router.worker_id(worker)
            self._do(router.core.step(worker_id, last, now_ns, schedules=False), router, now_ns)
            self._do(router.lose(worker, now_ns), router, now_ns)

    def _leave(self, worker: int, router: SimulatedRouter) -> None:
        """One router has let it go; with the last one its cache is gone, too."""
        router.left(worker)
        self._draining[worker] -= 1
        if not self._draining[worker]:
            del self._draining[worker]
            self._fleet.renew(worker)
            if self._loads is not None:
                self._loads.began_anew(worker)

    # -- for results

    def _idle_ns(self) -> Numbers:
        """Of each worker, by all routers together."""
        total = np.zeros((self._scenario.shape.workers, 3), np.int64)
        for router in self._routers:
            sums = [router.idle_of(w) for w in range(len(total))]
            total += [[s.planned_ns, s.avoidable_ns, s.starting_ns] for s in sums]
        return total
