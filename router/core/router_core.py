"""RouterCore: the router without I/O. (state, input, now) -> actions, the same ones every time.

Owns the composition of the router's parts; the service and simulations drive it. Every input is one
method, takes the time in integer nanoseconds and returns what to do, in order. The only randomness
is the generator passed in. Not thread-safe: one loop owns it.
"""

import random
from collections.abc import Sequence

from radixroute.events.wire.records import LoadReport
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys, Numbers, WorkerId
from radixroute.router.core.booking import Booker
from radixroute.router.core.delivery import Delivery
from radixroute.router.core.dispatcher import Dispatcher
from radixroute.router.core.liveness.inquiry import Inquiry
from radixroute.router.core.liveness.membership import Membership
from radixroute.router.core.liveness.watch import Watch
from radixroute.router.core.logs.decision_log import LoggedRequest
from radixroute.router.core.logs.request_log import EndedPage
from radixroute.router.core.logs.tape import Tape
from radixroute.router.core.scheduler import Scheduler
from radixroute.router.core.snapshot import RouterSnapshot, take_snapshot
from radixroute.router.core.state import RouterState, new_state
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action, Allow
from radixroute.router.messages.inputs import (
    NS_PER_S,
    AbsentWorker,
    MemberSpec,
    RequestSpec,
    StepReport,
    WorkerFacts,
)
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.view import Scores
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.audit import Audit
from radixroute.router.workers.columns import ColumnList
from radixroute.router.workers.idle import WorkerIdle
from radixroute.router.workers.journal import AuditedIndex
from radixroute.router.workers.members import Adapters, MemberState
from radixroute.router.workers.speed import Speed


class RouterCore:
    """One router's decisions."""

    def __init__(
        self,
        settings: RouterSettings,
        index: AuditedIndex,
        rng: random.Random,
        log_seed: int = 0,
        tape: Tape | None = None,
    ) -> None:
        """`log_seed`: 64 bits that only this router has; its request log hashes with them. `tape`:
        is told what is done."""
        self._state: RouterState = new_state(settings, index, rng, log_seed, tape)
        self.tape = tape  # for what the router's edges do
        self.trials = self._state.trials  # of policies, on some of the sessions
        self._booker = Booker(
            self._state, lease_unseen_ns=round(settings.lease_unseen_s * NS_PER_S)
        )
        self._scheduler = Scheduler(self._state, self._booker)
        self._dispatcher = Dispatcher(self._state, self._booker, self._scheduler)
        self._delivery = Delivery(self._state, self._booker, self._dispatcher)
        self._membership = Membership(self._state, self._booker, self._dispatcher)
        self._inquiry = Inquiry(self._state)
        self._watch = Watch(self._state, self._booker, self._dispatcher, self._membership, settings)

    # -- clients

    def enter(self, request_id: str, *, n_bytes: int, tokens: int | None = None) -> bool:
        """Whether a prompt of this size may come in at all: ask before tokenising it.

        `tokens`: None for text. Who is in ends by `submit`, or by `leave` if that never comes.
        False is counted as a refusal.
        """
        admission, counters = self._state.admission, self._state.counters
        if admission.enter(request_id, n_bytes=n_bytes, tokens=tokens):
            return True
        counters.add(Count.QUEUE_OVERFLOWED)
        counters.add(admission.limit_reached(n_bytes=n_bytes, tokens=tokens) or Count.HOUSE_FULL)
        return False

    def leave(self, request_id: str) -> None:
        """It entered and will not be submitted, or has ended already."""
        if request_id not in self._state.requests:
            self._state.admission.leave(request_id)

    @property
    def retry_after_ms(self) -> float:
        """When whoever was refused should come back."""
        return self._state.usual_wait.ms

    def submit(self, spec: RequestSpec, now_ns: int, *, is_last: bool = True) -> list[Action]:
        """A client wants this streamed, or a lease if the spec names one.

        Not `is_last`: more come at this very time; who waits is scheduled with the last of them, or
        by `schedule_waiting`.
        """
        self._elapse(now_ns)
        return self._dispatcher.admit(spec, now_ns, is_last=is_last)

    def schedule_waiting(self, now_ns: int) -> list[Action]:
        """Gives waiting requests to workers that can take them. Call it at `wake_ns`, too."""
        self._elapse(now_ns)
        return self._scheduler.schedule(now_ns) if len(self._state.waiting) else []

    @property
    def wake_ns(self) -> int | None:
        """When to call `schedule_waiting` though nothing may have happened; None: never."""
        return self._scheduler.wake_ns if len(self._state.waiting) else None

    def abort(self, request_id: str, now_ns: int) -> list[Action]:
        """A client is gone. Ended requests are no error: it may have crossed its own end."""
        request = self._state.requests.get(request_id)
        if request is None:
            return []
        self._elapse(now_ns)
        worker_id = request.worker_id
        actions = self._dispatcher.abort(request, now_ns)
        actions += self._membership.settle_drained(worker_id)
        # What it leaves may be what others wait for.
        return [*actions, *self.schedule_waiting(now_ns)]

    def renderer(self, need: str) -> WorkerId | None:
        """Who may be asked what tokens a prompt of that need has: the least busy one that lives."""
        loads = self._state.loads
        able = (m.spec.worker_id for m in self._state.members if m.takes(need))
        return min(able, key=lambda one: (loads.n_booked(one), one), default=None)

    def allow(self, request_id: str, n_bytes: int) -> list[Action]:
        """The client of a verbatim request has taken so much of its answer."""
        request = self._state.requests.get(request_id)
        if request is None or request.worker_id is None:
            return []
        return [Allow(request.worker_id, request_id, request.attempt, n_bytes)]

    def predicted_tokens(self, request_id: str) -> int:
        """Prompt tokens thought to be cached where the request was sent; 0 for unknown ones."""
        request = self._state.requests.get(request_id)
        return request.predicted_tokens if request is not None else 0

    def release(self, lease_id: str, now_ns: int) -> list[Action] | None:
        """Its load is free for others. None: the lease was unknown or had lapsed."""
        self._elapse(now_ns)
        lease = self._state.leases.end(lease_id)
        if lease is None:
            return None
        self._booker.settle_lease(lease)
        actions = self._membership.settle_drained(lease.worker_id)
        return [*actions, *self.schedule_waiting(now_ns)]

    # -- workers' outputs

    def step(
        self, worker_id: WorkerId, report: StepReport, now_ns: int, *, schedules: bool = True
    ) -> list[Action]:
        """One engine step's outputs, in the order in which the session gave them.

        Without `schedules` somebody else calls `schedule_waiting` before time goes on.
        """
        member = self._state.members.get(worker_id)
        if member is None or not member.is_connected:
            self._state.counters.add(Count.REPORTS_UNKNOWN)
            return []
        self._elapse(now_ns)
        if report.step_ms > 0.0:
            self._state.idle.stepped(worker_id, now_ns - round(report.step_ms * 1e6))
        self._state.speeds.observe(
            worker_id,
            step_ms=report.step_ms,
            prefill_tokens=report.prefill_tokens,
            decode_tokens=report.decode_tokens,
            now_ns=now_ns,
        )
        member.step_age_ms = 0.0
        self._membership.heard(member, now_ns)
        actions = self._delivery.deliver(member, report.deltas, now_ns)
        if report.more:
            actions += self._delivery.pass_on(member, report.more)
        actions += self._membership.settle_drained(worker_id)
        return actions + self.schedule_waiting(now_ns) if schedules else actions

    # -- the fleet

    def set_members(self, specs: Sequence[MemberSpec], now_ns: int) -> list[Action]:
        """The controller's list; it replaces the one before."""
        self._elapse(now_ns)
        actions = self._membership.set_members(specs, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def set_absent(self, absent: Sequence[AbsentWorker]) -> None:
        """Workers that the controller is bringing up, for whoever looks."""
        self._state.members.set_absent(absent)

    def joined(self, facts: WorkerFacts, now_ns: int) -> list[Action]:
        """A session with a worker that matches the fleet is open."""
        self._elapse(now_ns)
        actions = self._membership.joined(facts, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def refused(self, worker_id: WorkerId, reason: str) -> None:
        """It does not match the fleet."""
        self._membership.refused(worker_id, reason)

    def lost(self, worker_id: WorkerId, reason: str, now_ns: int) -> list[Action]:
        """Its session broke, or somebody who knows says it is dead."""
        self._elapse(now_ns)
        actions = self._membership.lost(worker_id, reason, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def heartbeat(
        self, worker_id: WorkerId, load: LoadReport, now_ns: int, *, heard_ns: int | None = None
    ) -> list[Action]:
        """A heartbeat of the accepted epoch. `heard_ns`: when it came, if that was before."""
        member = self._state.members.get(worker_id)
        if member is None or not member.is_connected:
            self._state.counters.add(Count.REPORTS_UNKNOWN)
            return []
        self._elapse(now_ns)
        self._state.members.set_kv_blocks(
            member, total=load.kv_blocks_total, used=load.kv_blocks_used
        )
        self._state.loads.report(worker_id, load.sessions, now_ns)
        self._see_leases(worker_id, load, now_ns)
        actions = self._watch.heartbeat(member, load.step_age_ms, now_ns, heard_ns)
        if member.is_connected:
            actions += self._inquiry.heard(member, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def cache_believed(self, worker_id: WorkerId, is_fresh: bool) -> None:
        """Whether its event stream is applied up to date. If not, it serves without credit."""
        member = self._state.members.get(worker_id)
        if member is not None:
            self._state.members.believe(member, is_fresh)

    @property
    def audit(self) -> Audit:
        """To be told how far the index has followed each worker, and asked what came of it."""
        return self._state.audit

    def expects_blocks(self, worker_id: WorkerId) -> bool:
        """Whether `stored` would change anything for this worker."""
        state = self._state
        return state.expected.expects(worker_id) or state.loads.is_shared(worker_id)

    def stored(self, worker_id: WorkerId, keys: Keys, heard_ns: int | None = None) -> None:
        """This chain of blocks is in the index now: no longer only expected. `heard_ns`: see
        `Booker.stored`."""
        self._booker.stored(worker_id, keys, heard_ns)

    # -- time

    def tick(self, now_ns: int) -> list[Action]:
        """Call it each 100 ms or so: silence, deadlines, leases, expectations."""
        self._elapse(now_ns)
        self._state.audit.tick(self._state.loads.n_booked, now_ns)
        actions = self._watch.tick(now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def rests_until_ns(self, now_ns: int) -> int:
        """After a tick: until then another leads to nothing, if nothing else happens, and need not
        come; `now_ns`: it is to come as ever. O(workers)."""
        state = self._state
        if len(state.requests) or len(state.leases) or state.audit.has_pending:
            return now_ns
        return self._watch.rest(now_ns)

    # -- for those who look, and for the lab

    @property
    def n_waiting(self) -> int:
        """Requests without a worker."""
        return len(self._state.waiting)

    @property
    def n_running(self) -> int:
        """Requests that have not ended, those that wait included."""
        return len(self._state.requests)

    @property
    def adapters(self) -> Adapters:
        """That workers serve beside the model as it is, or may before long."""
        return self._state.members.adapters

    @property
    def is_serving(self) -> bool:
        """Whether any worker takes requests."""
        return any(member.state is MemberState.LIVE for member in self._state.members)

    def member_states(self) -> dict[WorkerId, tuple[str, str]]:
        """The state of each listed worker and the reason of it, if there is one. O(workers)."""
        return {
            member.spec.worker_id: (member.state.value, member.reason)
            for member in self._state.members
        }

    def snapshot(self) -> RouterSnapshot:
        """The fleet, its hits and the counters as they stand. O(workers)."""
        return take_snapshot(self._state)

    def logged(self, request_id: str) -> LoggedRequest:
        """Its decisions. Raises UnknownRequest."""
        return self._state.log.get(request_id)

    def scores(self, decision: Decision) -> Scores:
        """As they were: equal views give equal scores, so nobody need keep them."""
        return self._state.selector.policy(decision.policy).scores(decision.view)

    def ended(self, after: int, max_bytes: int) -> EndedPage:
        """Ended requests with higher numbers, in order."""
        return self._state.ended.page(after, max_bytes)

    def count(self, name: Count, n: int = 1) -> None:
        """What the router's edges have to count."""
        self._state.counters.add(name, n)

    def count_to(self, name: Count, total: int) -> None:
        """The same, where somebody else counts and `total` is what there was so far."""
        self._state.counters.add(name, total - self._state.counters[name])

    def idle_of(self, worker_id: WorkerId) -> WorkerIdle:
        """For how long it had nothing to run while requests waited."""
        return self._state.idle.of(worker_id)

    def speed_of(self, worker_id: WorkerId) -> Speed:
        """What its time costs, as learned by now; of a listed worker."""
        return self._state.speeds.speed(worker_id)

    def columns_of(self, worker_ids: Sequence[WorkerId]) -> ColumnList:
        """Where the numbers of these workers stand, for `stepped`; while they are listed."""
        return self._state.speeds.columns(worker_ids)

    def stepped(self, columns: ColumnList, end_ns: Numbers) -> None:
        """Steps of these workers ended, of which nothing else is reported."""
        self._state.speeds.stepped(columns, end_ns)

    def observe_decode(
        self, worker_id: WorkerId, *, step_ms: float, decode_tokens: float, steps: int, now_ns: int
    ) -> None:
        """So many steps that only decoded, with their mean time and requests, until now."""
        self._state.speeds.observe(
            worker_id,
            step_ms=step_ms,
            prefill_tokens=0,
            decode_tokens=decode_tokens,
            now_ns=now_ns,
            steps=steps,
        )

    def check(self) -> None:
        """Raises BrokenInvariant when the parts do not agree."""
        state = self._state
        for part in (
            state.members,
            state.audit,
            state.loads,
            state.speeds,
            state.expected,
            state.selector,
            state.hits,
            state.idle,
            state.ended,
            state.admission,
            state.waiting,
            state.log,
        ):
            part.check()
        booked = {request.booking for request in state.requests if request.worker_id is not None}
        booked |= {lease.booking for lease in state.leases}
        if len(booked) != len(state.loads):
            raise BrokenInvariant("bookings and running requests differ")
        inside = {request.request_id for request in state.requests}
        inside |= {lease.request_id for lease in state.leases}
        if not all(request_id in state.admission for request_id in inside):
            raise BrokenInvariant("a request runs that never came in")
        waiting = {request.request_id for request in state.waiting}
        if waiting != {r.request_id for r in state.requests if r.worker_id is None}:
            raise BrokenInvariant("requests without a worker and waiting requests differ")

    def _see_leases(self, worker_id: WorkerId, load: LoadReport, now_ns: int) -> None:
        leases = self._state.leases
        if not len(leases):
            return
        for request_id in load.direct:
            leases.seen(worker_id, request_id, now_ns)
        for request_id in load.direct_ended:
            lease = leases.used(worker_id, request_id)
            if lease is not None:
                self._state.counters.add(Count.LEASES_USED)
                self._booker.settle_lease(lease)

    def _elapse(self, now_ns: int) -> None:
        """Every input begins with this: until now, things were as the last one left them."""
        self._state.idle.elapse(now_ns, n_waiting=len(self._state.waiting))
