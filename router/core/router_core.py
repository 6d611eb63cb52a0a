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
from radixroute.router.core.decision_log import LoggedRequest
from radixroute.router.core.delivery import Delivery
from radixroute.router.core.dispatcher import Dispatcher
from radixroute.router.core.leases import Lease
from radixroute.router.core.membership import Membership
from radixroute.router.core.request_log import EndedPage
from radixroute.router.core.requests import Request
from radixroute.router.core.snapshot import RouterSnapshot, take_snapshot
from radixroute.router.core.state import RouterState, new_state
from radixroute.router.core.watch import Watch
from radixroute.router.counters import Count
from radixroute.router.errors import NoWorkers
from radixroute.router.messages.actions import Action
from radixroute.router.messages.inputs import (
    NS_PER_S,
    MemberSpec,
    RequestSpec,
    StepReport,
    WorkerFacts,
)
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.snapshot import PrefixBeliefs
from radixroute.router.policy.view import Scores
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.columns import ColumnList
from radixroute.router.workers.idle import WorkerIdle
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import MemberState


class RouterCore:
    """One router's decisions."""

    def __init__(self, settings: RouterSettings, index: PrefixBeliefs, rng: random.Random) -> None:
        self._state: RouterState = new_state(settings, index, rng)
        self._lease_ttl_ns = round(settings.lease_ttl_s * NS_PER_S)
        self._dispatcher = Dispatcher(self._state, max_in_flight=settings.max_in_flight)
        self._delivery = Delivery(self._state, self._dispatcher)
        self._membership = Membership(self._state, self._dispatcher)
        self._watch = Watch(self._state, self._dispatcher, self._membership, settings)

    # -- clients

    def submit(self, spec: RequestSpec, now_ns: int, *, is_last: bool = True) -> list[Action]:
        """A client wants this streamed.

        Not `is_last`: more come at this very time; who waits is scheduled with the last of them, or
        by `schedule_waiting`.
        """
        self._elapse(now_ns)
        actions = self._dispatcher.admit(spec, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)] if is_last else actions

    def schedule_waiting(self, now_ns: int) -> list[Action]:
        """Gives waiting requests to workers that can take them. Call it at `wake_ns`, too."""
        self._elapse(now_ns)
        return self._dispatcher.schedule_waiting(now_ns) if len(self._state.waiting) else []

    @property
    def wake_ns(self) -> int | None:
        """When to call `schedule_waiting` though nothing may have happened; None: never."""
        return self._dispatcher.wake_ns if len(self._state.waiting) else None

    def abort(self, request_id: str, now_ns: int) -> list[Action]:
        """A client is gone. Ended requests are no error: it may have crossed its own end."""
        request = self._state.requests.get(request_id)
        if request is None:
            return []
        self._elapse(now_ns)
        worker_id = request.worker_id
        actions = self._dispatcher.abort(request)
        actions += self._membership.settle_drained(worker_id)
        # What it leaves may be what others wait for.
        return [*actions, *self.schedule_waiting(now_ns)]

    def predicted_tokens(self, request_id: str) -> int:
        """Prompt tokens thought to be cached where the request was sent; 0 for unknown ones."""
        request = self._state.requests.get(request_id)
        return request.predicted_tokens if request is not None else 0

    def route(self, spec: RequestSpec, lease_id: str, now_ns: int) -> Lease:
        """Books a worker for a client that streams from it. Raises NoWorkers."""
        self._elapse(now_ns)
        request = Request(spec)
        self._state.log.open(self._dispatcher.log_entry(spec))
        chosen = self._dispatcher.choose(request, now_ns)
        if chosen is None:
            self._state.log.ended(spec.request_id, "error")
            self._state.counters.add(Count.NO_WORKERS)
            raise NoWorkers("no live worker: try again in a moment")
        decision, member = chosen
        # Leases are no dispatches of ours: they count as seen once all before them are.
        overlap = self._dispatcher.book(
            BookingId(lease_id, 0), spec, decision, now_ns=now_ns, seq=member.next_dispatch - 1
        )
        lease = Lease(
            lease_id=lease_id,
            request_id=spec.request_id,
            worker_id=decision.worker_id,
            address=member.spec.address,
            policy=spec.policy,
            end_ns=now_ns + self._lease_ttl_ns,
            overlap_tokens=overlap,
        )
        self._state.leases.grant(lease)
        self._state.log.ended(spec.request_id, "leased")
        request.predicted_tokens = overlap
        self._state.ended.ended(
            request,
            "leased",
            block_size=self._state.serving.block_size,
            worker_id=decision.worker_id,
        )
        self._state.counters.add(Count.LEASES_GRANTED)
        return lease

    def release(self, lease_id: str, now_ns: int) -> bool:
        """False: the lease was unknown or had lapsed."""
        self._elapse(now_ns)
        lease = self._state.leases.end(lease_id)
        if lease is None:
            return False
        self._membership.settle_lease(lease)
        return True

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
        actions = self._membership.heard(member, now_ns)
        for delta in report.deltas:
            actions += self._delivery.deliver(member, delta, now_ns)
        actions += self._membership.settle_drained(worker_id)
        return [*actions, *self.schedule_waiting(now_ns)] if schedules else actions

    # -- the fleet

    def set_members(self, specs: Sequence[MemberSpec], now_ns: int) -> list[Action]:
        """The controller's list; it replaces the one before."""
        self._elapse(now_ns)
        return self._membership.set_members(specs, now_ns)

    def joined(self, facts: WorkerFacts, now_ns: int) -> list[Action]:
        """A session with a worker that matches the fleet is open."""
        self._elapse(now_ns)
        return self._membership.joined(facts, now_ns)

    def refused(self, worker_id: WorkerId, reason: str) -> None:
        """It does not match the fleet."""
        self._membership.refused(worker_id, reason)

    def lost(self, worker_id: WorkerId, reason: str, now_ns: int) -> list[Action]:
        """Its session broke, or somebody who knows says it is dead."""
        self._elapse(now_ns)
        return self._membership.lost(worker_id, reason, now_ns)

    def heartbeat(self, worker_id: WorkerId, load: LoadReport, now_ns: int) -> list[Action]:
        """A heartbeat of the accepted epoch."""
        member = self._state.members.get(worker_id)
        if member is None or not member.is_connected:
            self._state.counters.add(Count.REPORTS_UNKNOWN)
            return []
        self._elapse(now_ns)
        self._state.members.set_kv_blocks(
            member, total=load.kv_blocks_total, used=load.kv_blocks_used
        )
        self._state.loads.report(worker_id, load.sessions, now_ns)
        actions = self._watch.heartbeat(member, load.step_age_ms, now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

    def cache_believed(self, worker_id: WorkerId, is_fresh: bool) -> None:
        """Whether its event stream is applied up to date. If not, it serves without credit."""
        member = self._state.members.get(worker_id)
        if member is not None:
            self._state.members.believe(member, is_fresh)

    def expects_blocks(self, worker_id: WorkerId) -> bool:
        """Whether `stored` would change anything for this worker."""
        return self._state.expected.expects(worker_id)

    def stored(self, worker_id: WorkerId, keys: Keys) -> None:
        """This chain of blocks is in the index now: no longer only expected."""
        self._state.expected.stored(worker_id, keys)

    # -- time

    def tick(self, now_ns: int) -> list[Action]:
        """Call it each 100 ms or so: silence, deadlines, leases, expectations."""
        self._elapse(now_ns)
        actions = self._watch.tick(now_ns)
        return [*actions, *self.schedule_waiting(now_ns)]

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
    def is_serving(self) -> bool:
        """Whether any worker takes requests."""
        return any(member.state is MemberState.LIVE for member in self._state.members)

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
            state.loads,
            state.speeds,
            state.expected,
            state.selector,
            state.hits,
            state.idle,
            state.ended,
        ):
            part.check()
        booked = {request.booking for request in state.requests if request.worker_id is not None}
        booked |= {lease.booking for lease in state.leases}
        if len(booked) != len(state.loads):
            raise BrokenInvariant("bookings and running requests differ")
        waiting = {request.request_id for request in state.waiting}
        if waiting != {r.request_id for r in state.requests if r.worker_id is None}:
            raise BrokenInvariant("requests without a worker and waiting requests differ")

    def _elapse(self, now_ns: int) -> None:
        """Every input begins with this: until now, things were as the last one left them."""
        self._state.idle.elapse(now_ns, n_waiting=len(self._state.waiting))
