"""Dispatcher: gives requests to workers, takes them back when a worker is lost, and ends them.

Owns the life of a request between acceptance and its one end; changes the parts of `RouterState`
by their verbs. Every request waits in one queue or runs on one worker (docs/queue.md). Booking
happens in the same step as selection. No clock, no I/O: actions come back.
"""

from typing import Final

from radixroute.request.sampling import FinishReason
from radixroute.router.core.booking import Booker
from radixroute.router.core.logs.decision_log import LoggedRequest
from radixroute.router.core.logs.tape import DIED, FAILED, FULL, Closed, Lost, Opened, Refused
from radixroute.router.core.requests import Request
from radixroute.router.core.scheduler import Scheduler
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Abort, Action, Emit, Fail, Failure, Usage
from radixroute.router.messages.inputs import Delta, PackedTokens, RequestSpec, packed_len
from radixroute.router.workers.members import Member

# Two: one death may be chance; a request that was there both times may be what kills.
MAX_DEATHS: Final = 2
# Later deadlines are not judged in advance: they expire when they come.
FORESEEN_MS: Final = 60_000.0

_FAILURE_COUNTS = {
    Failure.NO_WORKERS: Count.NO_WORKERS,
    Failure.QUEUE_FULL: Count.QUEUE_OVERFLOWED,
    Failure.DEADLINE: Count.DEADLINES_PASSED,
    Failure.HOPELESS: Count.DEADLINES_HOPELESS,
    Failure.TOO_MANY_DEATHS: Count.DEATHS_EXHAUSTED,
    Failure.WORKER_ERROR: Count.WORKER_ERRORS,
    Failure.REFUSED: Count.WORKER_REFUSALS,
    Failure.NOT_RESUMABLE: Count.NOT_RESUMABLE,
}


class Dispatcher:
    """One router's hand on its requests."""

    def __init__(self, state: RouterState, booker: Booker, scheduler: Scheduler) -> None:
        self._state = state
        self._booker = booker
        self._scheduler = scheduler

    def admit(self, spec: RequestSpec, now_ns: int, *, is_last: bool) -> list[Action]:
        """Accepts it: it is dispatched, waits, or is refused. With the last one that comes now,
        whoever waits is scheduled."""
        actions = self._admit(spec, now_ns, is_alone=is_last and not len(self._state.waiting))
        if actions is None:
            return []
        if is_last and len(self._state.waiting):
            actions += self._scheduler.schedule(now_ns)
        return actions

    def _admit(self, spec: RequestSpec, now_ns: int, *, is_alone: bool) -> list[Action] | None:
        """None: it waits, and nothing else does that a schedule could send."""
        state = self._state
        policy = state.selector.policy(spec.policy)
        if not self._enter(spec):
            return self._refuse(spec, Failure.QUEUE_FULL, now_ns)
        if spec.resumed is None and self._is_hopeless(spec, now_ns):
            return self._refuse(spec, Failure.HOPELESS, now_ns)
        request = state.requests.open(spec)
        if state.tape is not None:
            state.tape.add(Opened(spec, now_ns))
        state.deadlines.add(spec.request_id, spec.deadline_ns)
        state.log.open(self._log_entry(spec))
        goes_at_once = policy.admit(request, self._booker.snapshot(now_ns))
        if spec.resumed is not None:
            state.counters.add(Count.REQUESTS_ACCEPTED)
            return self._go_on(request, now_ns)
        is_planned = is_alone and policy.binds_late and not goes_at_once
        action = self._go_now(request, now_ns, goes_at_once=goes_at_once, is_planned=is_planned)
        limit = None if action is not None else state.waiting.limit_reached(request)
        if limit is not None:
            state.counters.add(limit)
            return self.fail(request, Failure.QUEUE_FULL, now_ns)
        state.counters.add(Count.REQUESTS_ACCEPTED)  # who is refused is no part of it
        if action is not None:
            return [action]
        self._booker.wait(request, now_ns)
        return None if is_planned else []

    def _go_now(
        self, request: Request, now_ns: int, *, goes_at_once: bool, is_planned: bool
    ) -> Action | None:
        """None: it waits. Planned: as a schedule would, without the way through the queue."""
        if goes_at_once and self._passes_nobody(request.spec.policy):
            return self._booker.dispatch(request, now_ns)
        return self._scheduler.plan_one(request, now_ns) if is_planned else None

    def _passes_nobody(self, policy_name: str) -> bool:
        """With others waiting it waits behind them; unless all wait by the rule of its own policy,
        which knows whom it lets go first."""
        waiting = self._state.waiting
        if not len(waiting):
            return True
        is_own_rule = self._state.selector.policy(policy_name).binds_late
        return is_own_rule and not waiting.n_lost and list(waiting.policies) == [policy_name]

    def _go_on(self, request: Request, now_ns: int) -> list[Action]:
        """Its client lost its router: it was accepted once, so it needs no room in the queue."""
        self._state.counters.add(Count.STREAMS_RESUMED)
        finish = request.implied_finish(self._state.serving.eos_token_ids)
        if finish is not None:
            self._state.counters.add(Count.FINISHES_SYNTHESISED)
            return [self.finish(request, finish, None, now_ns)]
        if not self._has_successor(request):
            return self.fail(request, Failure.NOT_RESUMABLE, now_ns)
        self._booker.wait(request, now_ns)
        return []

    def lose_session(
        self, request: Request, member: Member, now_ns: int, *, process: str = ""
    ) -> list[Action]:
        """Its attempt there is over without a finish: elsewhere, or a clean end. `process`: see
        `Request.died_with`."""
        self._booker.settle(request.booking, request.spec.policy)
        self._state.idle.lost(member.spec.worker_id)
        self._note_lost(request, member, DIED, now_ns)
        request.excluded.add((member.spec.worker_id, member.epoch))
        request.died_with(now_ns, process)
        finish = request.implied_finish(self._state.serving.eos_token_ids)
        if finish is not None:
            self._state.counters.add(Count.FINISHES_SYNTHESISED)
            return [self.finish(request, finish, None, now_ns)]
        request.worker_id = None
        is_its_own = request.position > 0 and member.cannot_resume
        if request.has_passed or is_its_own or not self._has_successor(request):
            return self.fail(request, Failure.NOT_RESUMABLE, now_ns)
        if len(request.deaths_ns) >= MAX_DEATHS:
            return self.fail(request, Failure.TOO_MANY_DEATHS, now_ns)
        self._state.counters.add(Count.REQUESTS_RESUMED)
        self._booker.wait(request, now_ns)
        return []

    def give_back(self, request: Request, member: Member, now_ns: int) -> list[Action]:
        """Its worker has no room after all: it waits in its old place, and the worker gets nothing
        until it is heard of again."""
        self._booker.settle(request.booking, request.spec.policy)
        self._state.idle.lost(member.spec.worker_id)
        self._state.members.fill(member, is_full=True)
        self._state.counters.add(Count.REQUESTS_SENT_BACK)
        self._note_lost(request, member, FULL, now_ns)
        request.worker_id = None
        if request.has_passed:
            return self.fail(request, Failure.NOT_RESUMABLE, now_ns)
        self._booker.wait(request, now_ns)
        return []

    def retry(self, request: Request, member: Member, now_ns: int) -> list[Action]:
        """A live worker failed it: elsewhere, if the budget for that allows."""
        state = self._state
        self._booker.settle(request.booking, request.spec.policy)
        self._note_lost(request, member, FAILED, now_ns)
        request.worker_id = None
        if state.breakers.failed(member, now_ns):
            state.counters.add(Count.BREAKERS_OPENED)
        if request.has_passed:
            return self.fail(request, Failure.NOT_RESUMABLE, now_ns)
        may_go = len(state.members) > 1 and state.retries.take(
            request.request_id, n_running=len(state.requests)
        )
        if not may_go:
            return self.fail(request, Failure.WORKER_ERROR, now_ns)
        state.counters.add(Count.REQUESTS_RETRIED)
        request.excluded.add((member.spec.worker_id, member.epoch))
        self._booker.wait(request, now_ns)
        return []

    def finish(
        self, request: Request, finish: FinishReason, last: Delta | None, now_ns: int
    ) -> Emit:
        """Its booking is settled already. `last`: the output it ends with; None: it had it all."""
        state = self._state
        position, token_ids, text = request.position, PackedTokens(b""), ""
        if last is not None:
            token_ids, text = last.token_ids, last.text
        request.emit(token_ids, text)
        if request.output_tokens or request.spec.verbatim is None:
            state.speeds.answered(request.output_tokens)
        state.counters.add(Count.REQUESTS_FINISHED)
        usage = request.usage()
        self._close(request, finish.name.lower(), usage, now_ns)
        told = None if last is None else last.logprobs
        passage = None if last is None else last.passage
        return Emit(request.request_id, position, token_ids, text, finish, usage, told, passage)

    def fail(
        self, request: Request, failure: Failure, now_ns: int, detail: str = ""
    ) -> list[Action]:
        """Ends it with an error, wherever it is. `detail`: see `Fail`."""
        actions = self._leave(request, now_ns)
        self._close(request, "error", request.usage(), now_ns, failure)
        self._count_failure(failure)
        return [*actions, Fail(request.request_id, failure, detail)]

    def abort(self, request: Request, now_ns: int) -> list[Action]:
        """Its client is gone."""
        actions = self._leave(request, now_ns)
        self._state.counters.add(Count.REQUESTS_ABORTED)
        self._close(request, "abort", request.usage(), now_ns)
        return actions

    def _has_successor(self, request: Request) -> bool:
        """Whether anybody goes on with it, now or before long."""
        members, begun = self._state.members, request.begun_with
        return begun is None or members.has_successor(begun)

    def _enter(self, spec: RequestSpec) -> bool:
        admission = self._state.admission
        emitted = b"" if spec.resumed is None else spec.resumed.emitted
        tokens = spec.prompt_tokens + packed_len(emitted)
        if spec.request_id in admission:  # a door asked before it tokenised
            admission.counted(spec.request_id, tokens)
            return True
        n_bytes = spec.prompt.nbytes + len(emitted)
        if admission.enter(spec.request_id, n_bytes=n_bytes, tokens=tokens):
            return True
        limit = admission.limit_reached(n_bytes=n_bytes, tokens=tokens)
        self._state.counters.add(limit or Count.HOUSE_FULL)
        return False

    def _is_hopeless(self, spec: RequestSpec, now_ns: int) -> bool:
        """Not even the fastest worker, idle and with all that anybody holds of the prompt, would
        give a first token in time."""
        state = self._state
        left_ms = (spec.deadline_ns - now_ns) / 1e6
        if left_ms > FORESEEN_MS:
            return False
        least_ms = state.speeds.least_prefill_ms
        if not spec.is_read or least_ms(len(spec.prompt)) <= left_ms:
            return False
        held = state.selector.most_cached_tokens(spec.keys, state.serving.block_size)
        return least_ms(max(1, len(spec.prompt) - held)) > left_ms

    def _leave(self, request: Request, now_ns: int) -> list[Action]:
        """Takes it from wherever it is; tells the worker that runs it."""
        worker_id = request.worker_id
        if worker_id is None:
            if request in self._state.waiting:
                self._booker.leave_queue(request, now_ns)
            return []
        self._booker.settle(request.booking, request.spec.policy)
        return [Abort(worker_id, request.request_id, request.attempt)]

    def _close(
        self,
        request: Request,
        outcome: str,
        usage: Usage,
        now_ns: int,
        failure: Failure | None = None,
    ) -> None:
        """Its one end."""
        state, request_id = self._state, request.request_id
        if state.tape is not None:
            closed = Closed(request.spec, outcome, failure, usage, now_ns, request.emitted)
            state.tape.add(closed)
        state.latencies.ended(request, outcome, now_ns)
        if state.trials.running is not None:
            state.trials.ended(request.ending(), now_ns)
        state.selector.policy(request.spec.policy).on_end(request_id)
        state.log.ended(request_id, outcome)
        state.ended.ended(request, outcome, block_size=state.serving.block_size)
        state.retries.ended(request_id)
        state.admission.leave(request_id)
        state.requests.close(request)
        state.deadlines.shrink(len(state.requests), lambda other: other in state.requests)

    def _note_lost(self, request: Request, member: Member, why: str, now_ns: int) -> None:
        tape = self._state.tape
        if tape is not None:
            worker_id = member.spec.worker_id
            tape.add(Lost(request.request_id, request.attempt, worker_id, why, now_ns))

    def _refuse(self, spec: RequestSpec, failure: Failure, now_ns: int) -> list[Action]:
        self._state.admission.leave(spec.request_id)
        if self._state.tape is not None:
            self._state.tape.add(Refused(spec, failure, now_ns))
        self._count_failure(failure)
        return [Fail(spec.request_id, failure)]

    def _count_failure(self, failure: Failure) -> None:
        self._state.counters.add(Count.REQUESTS_FAILED)
        self._state.counters.add(_FAILURE_COUNTS[failure])

    def _log_entry(self, spec: RequestSpec) -> LoggedRequest:
        return LoggedRequest(
            request_id=spec.request_id,
            policy=spec.policy,
            prompt_tokens=spec.prompt_tokens,
            block_size=self._state.serving.block_size,
        )
