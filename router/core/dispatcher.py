"""Dispatcher: gives requests to workers, takes them back when a worker is lost, and ends them.

Owns the life of a request between acceptance and its one end; changes the parts of `RouterState`
by their verbs. Booking happens in the same step as selection. No clock, no I/O: actions come back.
"""

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.decision_log import LoggedRequest
from radixroute.router.core.requests import Request
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Abort, Action, Dispatch, Emit, Fail, Failure
from radixroute.router.messages.inputs import PackedTokens, RequestSpec
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.forecast import expected_ttft_ms
from radixroute.router.policy.policy import Bound, Dispatched
from radixroute.router.policy.snapshot import Snapshot
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import Member

# Two: one death may be chance; a request that was there both times may be what kills.
MAX_DEATHS = 2

_FAILURE_COUNTS = {
    Failure.NO_WORKERS: Count.NO_WORKERS,
    Failure.QUEUE_FULL: Count.QUEUE_OVERFLOWED,
    Failure.DEADLINE: Count.DEADLINES_PASSED,
    Failure.TOO_MANY_DEATHS: Count.DEATHS_EXHAUSTED,
    Failure.WORKER_ERROR: Count.WORKER_ERRORS,
}


class Dispatcher:
    """One router's hand on its requests."""

    def __init__(self, state: RouterState, *, max_in_flight: int) -> None:
        self._state = state
        self._max_in_flight = max_in_flight
        self._wake_ns: int | None = None

    @property
    def wake_ns(self) -> int | None:
        """When waiting requests should be scheduled though nothing may have happened by then."""
        return self._wake_ns

    def admit(self, spec: RequestSpec, now_ns: int) -> list[Action]:
        """Accepts it: it is dispatched, waits for the next `schedule_waiting`, or is refused."""
        state = self._state
        if len(state.requests) >= self._max_in_flight:
            return self._refuse(spec, Failure.QUEUE_FULL)
        policy = state.selector.policy(spec.policy)
        request = state.requests.open(spec)
        state.log.open(self.log_entry(spec))
        state.counters.add(Count.REQUESTS_ACCEPTED)
        if policy.admit(request, self._snapshot(now_ns)):
            dispatched = self._dispatch(request, now_ns)
            if dispatched is not None:
                return [dispatched]
        if state.waiting.is_full:
            return self.fail(request, Failure.QUEUE_FULL)
        self._wait(request, now_ns)
        return []

    def schedule_waiting(self, now_ns: int) -> list[Action]:
        """Hands waiting requests to workers that can take them now."""
        self._wake_ns = None
        actions, lost = list[Action](), list[Request]()
        by_policy: dict[str, list[Request]] = {}
        for request in self._state.waiting:
            # Who lost a session has waited already, and not everybody may have it: no plans.
            if request.excluded:
                lost.append(request)
            else:
                by_policy.setdefault(request.spec.policy, []).append(request)
        for request in lost:
            dispatched = self._dispatch(request, now_ns)
            if dispatched is None:
                break
            actions.append(dispatched)
        n_weighed = 0
        for name, requests in by_policy.items():
            n_weighed += self._schedule(name, requests, now_ns, actions)
        if n_weighed == len(self._state.waiting):
            self._state.idle.weighed()
        return actions

    def _schedule(
        self, policy_name: str, requests: list[Request], now_ns: int, actions: list[Action]
    ) -> int:
        """Those of one policy; how many still wait and were weighed against every worker."""
        policy = self._state.selector.policy(policy_name)
        policy.elapse(now_ns)
        while requests:
            plan = policy.plan(requests, self._snapshot(now_ns))
            policy.adopt(plan)
            if plan.wake_ns is not None:
                wake_ns = self._wake_ns
                self._wake_ns = plan.wake_ns if wake_ns is None else min(wake_ns, plan.wake_ns)
            for bound in plan.bound:
                request = self._waiting(bound.ask.request_id)
                actions.append(self._bind(request, *self._logged(bound), now_ns))
            if plan.bound:
                requests = [request for request in requests if request.worker_id is None]
            if not plan.asks_again:
                return len(requests) if plan.is_weighed else 0
        return 0

    def lose_session(self, request: Request, member: Member, now_ns: int) -> list[Action]:
        """Its attempt there is over without a finish: elsewhere, or a clean end."""
        self.settle(request.booking, request.spec.policy)
        self._state.idle.lost(member.spec.worker_id)
        request.excluded.add((member.spec.worker_id, member.epoch))
        request.deaths += 1
        finish = request.implied_finish(self._state.serving.eos_token_ids)
        if finish is not None:
            self._state.counters.add(Count.FINISHES_SYNTHESISED)
            return [self.finish(request, finish, PackedTokens(b""), "")]
        request.worker_id = None
        if request.deaths >= MAX_DEATHS:
            return self.fail(request, Failure.TOO_MANY_DEATHS)
        self._state.counters.add(Count.REQUESTS_RESUMED)
        dispatched = self._dispatch(request, now_ns)
        if dispatched is not None:
            return [dispatched]
        self._wait(request, now_ns)
        return []

    def finish(
        self, request: Request, finish: FinishReason, token_ids: PackedTokens, text: str
    ) -> Emit:
        """The last output; its booking is settled already."""
        state = self._state
        position = request.position
        request.emit(token_ids, text)
        state.speeds.answered(request.position)
        self._log_end(request, finish.name.lower())
        state.counters.add(Count.REQUESTS_FINISHED)
        state.requests.close(request)
        return Emit(request.request_id, position, token_ids, text, finish, request.usage())

    def fail(self, request: Request, failure: Failure) -> list[Action]:
        """Ends it with an error, wherever it is."""
        actions = self._leave(request)
        self._log_end(request, "error")
        self._state.requests.close(request)
        self._count_failure(failure)
        return [*actions, Fail(request.request_id, failure)]

    def abort(self, request: Request) -> list[Action]:
        """Its client is gone."""
        actions = self._leave(request)
        self._log_end(request, "abort")
        self._state.counters.add(Count.REQUESTS_ABORTED)
        self._state.requests.close(request)
        return actions

    def settle(self, booking: BookingId, policy_name: str) -> None:
        """What was booked holds no load and makes no blocks any more."""
        self._state.loads.settle(booking)
        self._state.expected.end(booking)
        self._state.selector.policy(policy_name).on_settle(booking)

    def choose(self, request: Request, now_ns: int) -> tuple[Decision, Member] | None:
        """A decision, logged; books nothing. None: nobody can take it now."""
        policy = self._state.selector.policy(request.spec.policy)
        policy.elapse(now_ns)
        plan = policy.choose(request, self._snapshot(now_ns))
        policy.adopt(plan)
        return self._logged(plan.bound[0]) if plan.bound else None

    def book(
        self, booking: BookingId, spec: RequestSpec, decision: Decision, *, now_ns: int, seq: int
    ) -> int:
        """Books load and expected blocks; returns the prompt tokens believed to be cached."""
        state, view, chosen = self._state, decision.view, decision.chosen
        overlap, expected = int(view.overlap_blocks[chosen]), int(view.expected_blocks[chosen])
        cached = view.cached_tokens(overlap)
        uncached = view.prompt_tokens - cached
        state.loads.book(
            booking,
            decision.worker_id,
            dispatch_seq=seq,
            queued_tokens=uncached,
            now_ns=now_ns,
        )
        state.recent_prefill.give(decision.worker_id, uncached, self._fleet_tokens(view.block_size))
        member = state.members.get(decision.worker_id)
        kv_blocks = 0 if member is None else member.kv_blocks_total
        policy = state.selector.policy(decision.policy)
        policy.on_dispatch(Dispatched(spec, booking, decision, kv_blocks, now_ns))
        state.expected.expect(
            booking, decision.worker_id, spec.keys, start=overlap - expected, now_ns=now_ns
        )
        return min(cached, len(spec.prompt))

    def _snapshot(self, now_ns: int) -> Snapshot:
        return self._state.selector.snapshot(now_ns, self._state.serving.block_size)

    def _fleet_tokens(self, block_size: int) -> float:
        """What all caches hold together."""
        return block_size * float(self._state.members.kv_blocks_total)

    def _logged(self, bound: Bound) -> tuple[Decision, Member]:
        decision = bound.decision
        member = self._state.members.get(decision.worker_id)
        if member is None:
            raise BrokenInvariant(f"{decision.worker_id} was chosen and is not a member")
        self._state.log.decided(bound.ask.request_id, decision)
        return decision, member

    def _waiting(self, request_id: str) -> Request:
        request = self._state.requests.get(request_id)
        if request is None or request.worker_id is not None:
            raise BrokenInvariant(f"request {request_id} was bound and does not wait")
        return request

    def _dispatch(self, request: Request, now_ns: int) -> Dispatch | None:
        chosen = self.choose(request, now_ns)
        return None if chosen is None else self._bind(request, *chosen, now_ns)

    def _bind(self, request: Request, decision: Decision, member: Member, now_ns: int) -> Dispatch:
        if request in self._state.waiting:
            self._state.waiting.remove(request)
            has_waited = now_ns > request.waiting_since_ns
            if has_waited and not self._state.loads.n_booked(decision.worker_id):
                self._state.idle.sent(decision.worker_id, now_ns)
        request.attempt += 1
        request.worker_id = WorkerId(member.spec.worker_id)
        seq = member.next_dispatch
        member.next_dispatch += 1
        request.expected_ms = _expected_ms(decision)
        request.dispatch_seq, request.sent_ns = seq, now_ns
        cached = self.book(request.booking, request.spec, decision, now_ns=now_ns, seq=seq)
        if not request.is_counted:
            request.predicted_tokens = cached
        if request.dispatched_ns is None:
            request.dispatched_ns = now_ns
        return Dispatch(
            worker_id=request.worker_id,
            spec=request.spec,
            attempt=request.attempt,
            dispatch_seq=seq,
            emitted=PackedTokens(bytes(request.emitted)),
            emitted_text_len=request.text_len,
        )

    def _wait(self, request: Request, now_ns: int) -> None:
        request.waiting_since_ns = now_ns
        self._state.waiting.push(request)
        self._state.counters.add(Count.REQUESTS_QUEUED)

    def _log_end(self, request: Request, outcome: str) -> None:
        self._state.selector.policy(request.spec.policy).on_end(request.request_id)
        self._state.log.ended(request.request_id, outcome)
        self._state.ended.ended(request, outcome, block_size=self._state.serving.block_size)

    def _leave(self, request: Request) -> list[Action]:
        """Takes it from wherever it is; tells the worker that runs it."""
        worker_id = request.worker_id
        if worker_id is None:
            if request in self._state.waiting:
                self._state.waiting.remove(request)
            return []
        self.settle(request.booking, request.spec.policy)
        return [Abort(worker_id, request.request_id, request.attempt)]

    def _refuse(self, spec: RequestSpec, failure: Failure) -> list[Action]:
        self._count_failure(failure)
        return [Fail(spec.request_id, failure)]

    def _count_failure(self, failure: Failure) -> None:
        self._state.counters.add(Count.REQUESTS_FAILED)
        self._state.counters.add(_FAILURE_COUNTS[failure])

    def log_entry(self, spec: RequestSpec) -> LoggedRequest:
        return LoggedRequest(
            request_id=spec.request_id,
            policy=spec.policy,
            prompt_tokens=len(spec.prompt),
            block_size=self._state.serving.block_size,
        )


def _expected_ms(decision: Decision) -> float:
    """Dispatch to first token, if it is alone there; 0: it is not, and nothing can be learned."""
    if decision.view.queued_tokens[decision.chosen] != 0.0:
        return 0.0
    if decision.ttft_ms is not None:
        return decision.ttft_ms
    return expected_ttft_ms(decision.view, decision.chosen)
