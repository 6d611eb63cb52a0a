"""Delivery: a worker's outputs to the clients they belong to, each position once and in order.

Owns no state: fences old attempts, drops what was emitted already, counts both, and books what the
engine reports about the prompt. No clock, no I/O; `RouterCore` calls.
"""

from collections.abc import Iterable, Sequence

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import More, Passage
from radixroute.router.core.booking import Booker
from radixroute.router.core.dispatcher import Dispatcher
from radixroute.router.core.logs.tape import Begun, Reported
from radixroute.router.core.requests import GIVEN_UP, Placement, Request
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Abort, Action, Emit, Failure
from radixroute.router.messages.inputs import Delta, PromptFacts, packed_len
from radixroute.router.policy.view import cacheable_blocks
from radixroute.router.workers.claims import Claim
from radixroute.router.workers.members import Member

_DROP_COUNTS = {
    Placement.OLD_ATTEMPT: Count.DELTAS_FENCED,
    Placement.DUPLICATE: Count.DELTAS_DUPLICATE,
    Placement.MISPLACED: Count.DELTAS_MISPLACED,
}


class Delivery:
    """Outputs in, client messages out."""

    def __init__(self, state: RouterState, booker: Booker, dispatcher: Dispatcher) -> None:
        self._state = state
        self._booker = booker
        self._dispatcher = dispatcher

    def deliver(self, member: Member, deltas: Iterable[Delta], now_ns: int) -> list[Action]:
        """All of one step. Nearly all of them are more tokens of what goes on: those take the short
        way, and what they count is counted once for all."""
        requests, worker_id = self._state.requests, member.spec.worker_id
        actions: list[Action] = []
        served: dict[str, int] = {}  # by tenant, tokens
        for delta in deltas:
            request = requests.get(delta.request_id)
            if request is None or request.worker_id != worker_id or not request.continues(delta):
                actions += self._deliver(request, member, delta, now_ns)
                continue
            token_ids, text = delta.token_ids, delta.text
            tenant = request.spec.tenant
            served[tenant] = served.get(tenant, 0) + packed_len(token_ids)
            request.emit(token_ids, text)
            actions.append(
                Emit(
                    request.spec.request_id,
                    delta.position,
                    token_ids,
                    text,
                    None,
                    None,
                    delta.logprobs,
                )
            )
        for tenant, n_tokens in served.items():
            self._state.waiting.serve(tenant, decode=n_tokens)
        return actions

    def _deliver(
        self, request: Request | None, member: Member, delta: Delta, now_ns: int
    ) -> list[Action]:
        if request is None or request.worker_id != member.spec.worker_id:
            self._state.counters.add(Count.DELTAS_FENCED)
            return []
        placement = request.place(delta)
        if placement is not Placement.NEXT:
            return self._drop(request, member, placement, now_ns)
        if delta.finish is not None and delta.finish in GIVEN_UP:
            return self._given_up(request, member, delta, now_ns)
        return [self._emit(request, member, delta, now_ns)]

    def pass_on(self, member: Member, pieces: Sequence[More]) -> list[More]:
        """More bytes of verbatim answers: those that are still their clients'."""
        requests, worker_id = self._state.requests, member.spec.worker_id
        passed: list[More] = []
        for piece in pieces:
            request = requests.get(piece.request_id)
            if request is None or request.worker_id != worker_id or not request.passes(piece):
                self._state.counters.add(Count.DELTAS_FENCED)
                continue
            request.passed_tokens += piece.n_tokens
            self._state.waiting.serve(request.spec.tenant, decode=piece.n_tokens)
            passed.append(piece)
        return passed

    def _given_up(
        self, request: Request, member: Member, delta: Delta, now_ns: int
    ) -> list[Action]:
        """Its worker has no answer to it; whose fault that is decides."""
        match delta.finish:
            case FinishReason.FULL:
                return self._dispatcher.give_back(request, member, now_ns)
            case FinishReason.INVALID:
                failure = _refusal(request, member)
                detail = delta.error if failure is Failure.REFUSED else ""
                return self._dispatcher.fail(request, failure, now_ns, detail)
            case FinishReason.ERROR:
                return self._dispatcher.retry(request, member, now_ns)
            case _:
                # We abort only what we close first: the worker gave this attempt up by itself, or
                # has lost its end.
                if request.inquired == request.attempt:
                    self._state.counters.add(Count.ATTEMPTS_LOST)
                return self._dispatcher.lose_session(request, member, now_ns)

    def _drop(
        self, request: Request, member: Member, placement: Placement, now_ns: int
    ) -> list[Action]:
        self._state.counters.add(_DROP_COUNTS[placement])
        if placement is not Placement.MISPLACED:
            return []
        abort = Abort(member.spec.worker_id, request.request_id, request.attempt)
        return [abort, *self._dispatcher.lose_session(request, member, now_ns)]

    def _emit(self, request: Request, member: Member, delta: Delta, now_ns: int) -> Emit:
        if delta.prompt is not None:
            self._report(request, delta.prompt, now_ns)
        is_first = bool(delta.token_ids) and request.first_token_ns is None
        if delta.passage is not None:
            is_first = self._pass(request, delta.passage, now_ns)
        if delta.token_ids:
            if request.begun != request.attempt:
                self._begin(request, now_ns)
                policy = self._state.selector.policy(request.spec.policy)
                policy.on_first_token(request.booking, now_ns)
            self._state.waiting.serve(request.spec.tenant, decode=packed_len(delta.token_ids))
        if is_first:
            request.first_token_ns = now_ns
        if delta.token_ids and request.expected_ms:
            self._time(request, now_ns)
        if delta.finish is not None:
            self._booker.settle(request.booking, request.spec.policy)
            self._state.breakers.served(member)
            return self._dispatcher.finish(request, delta.finish, delta, now_ns)
        position = request.position
        request.emit(delta.token_ids, delta.text)
        usage = request.usage() if is_first else None
        return Emit(
            request.request_id,
            position,
            delta.token_ids,
            delta.text,
            None,
            usage,
            delta.logprobs,
            delta.passage,
        )

    def _pass(self, request: Request, passage: Passage, now_ns: int) -> bool:
        """Bytes of its engine's own answer go by; whether they are the first."""
        is_first, request.has_passed = not request.has_passed, True
        request.passed_tokens += passage.n_tokens
        self._state.waiting.serve(request.spec.tenant, decode=passage.n_tokens)
        if is_first:
            self._begin(request, now_ns)
        # An answer that comes whole has no first token of its own.
        if request.first_token_ns is None and passage.is_stream:
            request.first_token_ns = now_ns
        return is_first

    def _begin(self, request: Request, now_ns: int) -> None:
        """Its attempt has a first token."""
        request.begun = request.attempt
        if self._state.tape is not None:
            self._state.tape.add(Begun(request.request_id, request.attempt, now_ns))
        booking = request.booking
        self._state.loads.first_token(booking, now_ns)
        self._state.pace.ended(booking)

    def _time(self, request: Request, now_ns: int) -> None:
        """Its first token came: did it take as long as was thought?"""
        expected_ms, request.expected_ms = request.expected_ms, 0.0
        worker_id = request.worker_id or WorkerId("")
        member = self._state.members.get(worker_id)
        if member is not None and member.next_dispatch == request.dispatch_seq + 1:
            took_ms = (now_ns - request.sent_ns) / 1e6
            self._state.speeds.timed(
                worker_id, expected_ms=expected_ms, took_ms=took_ms, now_ns=now_ns
            )

    def _report(self, request: Request, report: PromptFacts, now_ns: int) -> None:
        worker_id = request.worker_id or WorkerId("")
        # Of what is believed, only answers that are read here say what was taught.
        is_foreign = request.spec.verbatim is not None
        is_unsure = is_foreign and self._state.audit.of(worker_id).is_believed
        if _is_predicted(request, report) and not is_unsure:
            self._audit(worker_id, request, report, now_ns)
        else:
            self._state.counters.add(Count.REPORTS_UNAUDITED)
        tape, is_first = self._state.tape, not request.is_counted
        if tape is not None:
            tape.add(
                Reported(request.request_id, request.attempt, worker_id, report, is_first, now_ns)
            )
        hits = self._state.hits
        request.reported(report.cached_tokens)
        if is_first:
            request.is_counted = True
            request.cached_tokens = report.cached_tokens
            request.recomputed_tokens += report.recomputed_tokens
            hits.served(worker_id, report, predicted_tokens=request.predicted_tokens)
            self._state.log.served(request.request_id, report.cached_tokens)
            return
        again = report.prompt_tokens - report.cached_tokens + report.recomputed_tokens
        request.recomputed_tokens += again
        hits.resumed(worker_id, recomputed_tokens=again)

    def _audit(
        self, worker_id: WorkerId, request: Request, report: PromptFacts, now_ns: int
    ) -> None:
        """What was resumed is as good as prompt to its worker, but only the prompt has keys here:
        of a cached block that is part prompt, part output, the report counts the prompt's part.
        """
        size, keys = self._state.serving.block_size, request.spec.keys
        position = None if report.event_seq is None else (report.event_seq, report.events_before)
        self._state.audit.reported(
            Claim(
                worker_id=worker_id,
                keys=keys[: cacheable_blocks(request.prompt_tokens, size)],
                told=report.cached_tokens // size,
                position=position,
                mark=request.mark,
                rank=report.rank,
                told_ns=now_ns,
            )
        )


def _is_predicted(request: Request, report: PromptFacts) -> bool:
    """Whether the keys here are those of the prompt that its engine made of it."""
    if request.spec.verbatim is None:
        return True
    return request.spec.is_read and report.prompt_tokens == len(request.spec.prompt)


def _refusal(request: Request, member: Member) -> Failure:
    """Its worker cannot serve it; nobody else is asked. With output, its own fault it may not be:
    the worker may know nothing of going on."""
    is_cut_off = request.position > 0 and not member.goes_on_with(request.spec.sampling)
    return Failure.NOT_RESUMABLE if is_cut_off else Failure.REFUSED
