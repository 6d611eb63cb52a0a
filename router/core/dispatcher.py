"""Dispatcher: gives requests to workers, takes them back when a worker is lost, and ends them.

Owns the life of a request between acceptance and its one end; changes the parts of `RouterState`
by their verbs. Booking happens in the same step as selection. No clock, no I/O: actions come back.
"""

from radixroute.radix.ids import Keys, WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.decision_log import Decision, LoggedRequest
from radixroute.router.core.requests import Request
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.errors import BrokenInvariant
from radixroute.router.messages.actions import Abort, Action, Dispatch, Emit, Fail, Failure
from radixroute.router.messages.inputs import PackedTokens, RequestSpec
from radixroute.router.policy.table import Policy, policy_named
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

    def admit(self, spec: RequestSpec, now_ns: int) -> list[Action]:
        """Accepts it: it is dispatched, waits, or is refused.

        One of a planned policy always waits here for the next `pump`.
        """
        state = self._state
        if len(state.requests) >= self._max_in_flight:
            return self._refuse(spec, Failure.QUEUE_FULL)
        policy = policy_named(spec.policy)
        request = state.requests.open(spec)
        state.log.open(self.log_entry(spec))
        state.counters.add(Count.REQUESTS_ACCEPTED)
        if not policy.is_planned and self._may_bind(policy):
            dispatched = self._dispatch(request, now_ns)
            if dispatched is not None:
                return [dispatched]
        if state.waiting.is_full:
            return self.fail(request, Failure.QUEUE_FULL)
        if policy.queue_threshold is not None:
            request.rank = state.selector.uncached_tokens(request, state.serving.block_size)
        self._wait(request, now_ns)
        return []

    def pump(self, now_ns: int) -> list[Action]:
        """Hands waiting requests to workers that can take them now."""
        state, actions = self._state, list[Action]()
        planned: dict[str, list[Request]] = {}
        refused: set[float | None] = set()  # thresholds under which nobody may go in this pump
        # Ranks order those of a queueing policy; all others have the same and keep their order.
        for request in sorted(
            state.waiting, key=lambda request: (not request.attempt, request.rank)
        ):
            policy = policy_named(request.spec.policy)
            if policy.is_planned and not request.excluded:
                planned.setdefault(request.spec.policy, []).append(request)
                continue
            if not request.attempt:
                # What goes only adds to what is queued: who may not go now may not go in this pump.
                threshold = policy.queue_threshold
                if threshold in refused:
                    continue
                if not self._may_bind(policy):
                    refused.add(threshold)
                    continue
            dispatched = self._dispatch(request, now_ns)
            if dispatched is None:
                break
            actions.append(dispatched)
        n_planned = sum(map(len, planned.values()))
        is_all_planned = n_planned == len(state.waiting)
        for name, requests in planned.items():
            block_size = state.serving.block_size
            self._expire(policy_named(name), now_ns)
            for request, decision in state.selector.plan(requests, name, block_size, now_ns):
                actions.append(self._bind(request, *self._logged(request, decision), now_ns))
        if is_all_planned:
            state.idle.weighed()
        return actions

    def lose_session(self, request: Request, member: Member, now_ns: int) -> list[Action]:
        """Its attempt there is over without a finish: elsewhere, or a clean end."""
        self.settle(request)
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

    def settle(self, request: Request) -> None:
        """Its attempt holds no load and makes no blocks any more."""
        self._state.loads.settle(request.booking)
        self._state.expected.end(request.booking)
        self._state.active.end(request.booking)

    def choose(self, request: Request, now_ns: int) -> tuple[Decision, Member] | None:
        """A decision, logged; books nothing. None: nobody can take it now."""
        state = self._state
        name, block_size = request.spec.policy, state.serving.block_size
        self._expire(policy_named(name), now_ns)
        decision = state.selector.select(request, name, block_size, now_ns)
        return None if decision is None else self._logged(request, decision)

    def book(
        self, key: BookingId, request: Request, decision: Decision, *, now_ns: int, seq: int
    ) -> int:
        """Books load and expected blocks; returns the prompt tokens believed to be cached."""
        view, chosen = decision.view, decision.chosen
        overlap, expected = int(view.overlap_blocks[chosen]), int(view.expected_blocks[chosen])
        cached = view.cached_tokens(overlap)
        self._state.loads.book(
            key,
            decision.worker_id,
            dispatch_seq=seq,
            queued_tokens=view.prompt_tokens - cached,
            now_ns=now_ns,
        )
        self._state.fills.give(
            decision.worker_id, view.prompt_tokens - cached, self._fleet_tokens(view.block_size)
        )
        policy = policy_named(decision.policy)
        if policy.needs_blocks:
            self._state.active.add(key, decision.worker_id, request.spec.keys)
        if policy.learns:
            self._learn(decision.worker_id, request.spec.keys, now_ns)
        self._state.expected.expect(
            key, decision.worker_id, request.spec.keys, start=overlap - expected, now_ns=now_ns
        )
        return min(cached, len(request.spec.prompt))

    def _expire(self, policy: Policy, now_ns: int) -> None:
        if policy.learns:
            self._state.counters.add(Count.LEARNED_LAPSED, self._state.learned.expire(now_ns))

    def _learn(self, worker_id: WorkerId, keys: Keys, now_ns: int) -> None:
        member = self._state.members.get(worker_id)
        room = 0 if member is None else member.kv_blocks_total
        forgotten = self._state.learned.learn(worker_id, keys, room=room, now_ns=now_ns)
        self._state.counters.add(Count.LEARNED_FORGOTTEN, forgotten)

    def _may_bind(self, policy: Policy) -> bool:
        """Whether its policy lets it go now, if it were the first that waits."""
        threshold = policy.queue_threshold
        return threshold is None or self._state.selector.may_bind(threshold)

    def _fleet_tokens(self, block_size: int) -> float:
        """What all caches hold together."""
        return block_size * float(self._state.members.kv_blocks_total)

    def _logged(self, request: Request, decision: Decision) -> tuple[Decision, Member]:
        member = self._state.members.get(decision.worker_id)
        if member is None:
            raise BrokenInvariant(f"{decision.worker_id} was chosen and is not a member")
        self._state.log.decided(request.request_id, decision)
        return decision, member

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
        is_alone = decision.view.queued_tokens[decision.chosen] == 0.0
        request.expected_ms = decision.expected_ms if is_alone else 0.0
        request.dispatch_seq, request.sent_ns = seq, now_ns
        cached = self.book(request.booking, request, decision, now_ns=now_ns, seq=seq)
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
        self._state.log.ended(request.request_id, outcome)
        self._state.ended.ended(request, outcome, block_size=self._state.serving.block_size)

    def _leave(self, request: Request) -> list[Action]:
        """Takes it from wherever it is; tells the worker that runs it."""
        worker_id = request.worker_id
        if worker_id is None:
            if request in self._state.waiting:
                self._state.waiting.remove(request)
            return []
        self.settle(request)
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
