"""Booking: the one place where a request gets a worker, and where what was booked ends.

Owns no state. A decision, its load, its expected blocks and the tokens it costs its tenant are
booked in one step, so that the next decision sees them. No clock, no I/O; `Dispatcher` and
`Scheduler` call.
"""

from typing import Final

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys, WorkerId
from radixroute.router.core.leases import Lease
from radixroute.router.core.logs.tape import LEASED, Closed, Sent
from radixroute.router.core.requests import Request
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import AttemptUsage, Dispatch, Grant
from radixroute.router.messages.inputs import PackedTokens, RequestSpec
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.forecast import expected_ttft_ms
from radixroute.router.policy.policy import Bound, Dispatched
from radixroute.router.policy.snapshot import Snapshot
from radixroute.router.workers.load import BookingId
from radixroute.router.workers.members import Member

# Blocks that an answer fills in one step; a longer chain is of a prompt.
MOST_OUTPUT_BLOCKS: Final = 1


class Booker:
    """Books decisions."""

    def __init__(self, state: RouterState, *, lease_unseen_ns: int) -> None:
        """`lease_unseen_ns`: so long a lease lives whose client its worker never sees."""
        self._state = state
        self._lease_unseen_ns = lease_unseen_ns

    def snapshot(self, now_ns: int) -> Snapshot:
        return self._state.selector.snapshot(now_ns, self._state.serving.block_size)

    def dispatch(self, request: Request, now_ns: int) -> Dispatch | Grant | None:
        """To the worker that its policy chooses for it alone. None: nobody can take it now."""
        policy = self._state.selector.policy(request.spec.policy)
        policy.elapse(now_ns)
        plan = policy.choose(request, self.snapshot(now_ns))
        if not plan.bound:
            return None
        bound = plan.bound[0]
        if request.is_resumed and not self._state.pace.may_resume(bound.decision.worker_id):
            return None
        policy.adopt(plan)
        return self.bind(request, bound, now_ns)

    def bind(self, request: Request, bound: Bound, now_ns: int) -> Dispatch | Grant:
        """Carries a decision out."""
        decision, member = self._logged(bound)
        if request in self._state.waiting:
            self.leave_queue(request, now_ns)
            has_waited = now_ns > request.waiting_since_ns
            if has_waited and not self._state.loads.n_booked(decision.worker_id):
                self._state.idle.sent(decision.worker_id, now_ns)
        if request.spec.lease_id:
            return self._lease(request, decision, member, now_ns)
        request.attempt += 1
        request.worker_id = WorkerId(member.spec.worker_id)
        request.by_attempt.append(AttemptUsage(request.worker_id))
        request.mark = self._state.audit.mark(request.worker_id, request.spec.keys)
        seq = member.next_dispatch
        member.next_dispatch += 1
        # What nobody has read, or comes whole, teaches nothing of prompts.
        request.expected_ms = 0.0 if request.spec.verbatim else _expected_ms(decision)
        request.dispatch_seq, request.sent_ns = seq, now_ns
        cached = self._book(request.booking, request.spec, decision, now_ns=now_ns, seq=seq)
        if request.is_resumed:
            self._state.pace.began(request.booking, decision.worker_id)
        if not request.is_counted:
            request.predicted_tokens = cached
        if request.dispatched_ns is None:
            request.dispatched_ns = now_ns
        if self._state.tape is not None:
            self._state.tape.add(
                Sent(
                    request.request_id,
                    request.attempt,
                    decision,
                    cached,
                    now_ns,
                    request.mark.seqs,
                )
            )
        return Dispatch(
            worker_id=request.worker_id,
            spec=request.spec,
            attempt=request.attempt,
            dispatch_seq=seq,
            emitted=PackedTokens(bytes(request.emitted)),
            emitted_text_len=request.text_len,
        )

    def stored(self, worker_id: WorkerId, keys: Keys, heard_ns: int | None) -> None:
        """This chain is in a cache now. What nobody here expected other routers sent, if there are
        any: a step began that computes it. `heard_ns`: when; None: at the last input."""
        state, size = self._state, self._state.serving.block_size
        n_others = len(keys) - state.expected.stored(worker_id, keys)
        if n_others > MOST_OUTPUT_BLOCKS and state.loads.is_shared(worker_id):
            now_ns = state.idle.last_ns if heard_ns is None else heard_ns
            member = state.members.get(worker_id)
            a_step = 0 if member is None else member.max_batched_tokens
            began = state.loads.others_began(worker_id, n_others * size, now_ns, a_step=a_step)
            self._fill(worker_id, began)

    def wait(self, request: Request, now_ns: int) -> None:
        """Into the queue. Room is asked for before."""
        request.waiting_since_ns = now_ns
        self._state.waiting.push(request, now_ns)

    def leave_queue(self, request: Request, now_ns: int) -> None:
        """It waits no more, whatever comes next."""
        self._state.waiting.remove(request, now_ns)
        waited_ns = now_ns - request.waiting_since_ns
        if waited_ns > 0:
            self._state.counters.add(Count.REQUESTS_QUEUED)
            self._state.usual_wait.ended(waited_ns)

    def settle(self, booking: BookingId, policy_name: str) -> None:
        """What was booked holds no load and makes no blocks any more."""
        self._state.loads.settle(booking)
        self._state.expected.end(booking)
        self._state.pace.ended(booking)
        self._state.selector.policy(policy_name).on_settle(booking)

    def settle_lease(self, lease: Lease) -> None:
        """The lease has ended; its booking ends with it."""
        self.settle(lease.booking, lease.policy)
        self._state.selector.policy(lease.policy).on_end(lease.request_id)
        self._state.admission.leave(lease.request_id)

    def _book(
        self, booking: BookingId, spec: RequestSpec, decision: Decision, *, now_ns: int, seq: int
    ) -> int:
        """Books load and expected blocks; returns the prompt tokens believed to be cached."""
        state, view, chosen = self._state, decision.view, decision.chosen
        overlap, expected = view.overlap_blocks.item(chosen), view.expected_blocks.item(chosen)
        cached = view.cached_tokens(overlap)
        uncached = view.prompt_tokens - cached
        member = state.members.get(decision.worker_id)
        state.loads.book(
            booking,
            decision.worker_id,
            dispatch_seq=seq,
            queued_tokens=uncached,
            now_ns=now_ns,
            a_step=0 if member is None else member.max_batched_tokens,
        )
        state.waiting.serve(spec.tenant, prefill=uncached)
        kv_blocks = 0 if member is None else member.kv_blocks_total
        self._fill(decision.worker_id, uncached)
        policy = state.selector.policy(decision.policy)
        policy.on_dispatch(Dispatched(spec, booking, decision, kv_blocks, now_ns))
        state.expected.expect(
            booking, decision.worker_id, spec.keys, start=overlap - expected, now_ns=now_ns
        )
        return min(cached, len(spec.prompt))

    def _lease(self, request: Request, decision: Decision, member: Member, now_ns: int) -> Grant:
        """Its client streams from the worker itself: the request ends here, the booking goes on."""
        state, spec = self._state, request.spec
        lease_id = spec.lease_id
        # Leases are no dispatches of ours: they count as seen once all before them are.
        booking, seq = BookingId(lease_id, 0), member.next_dispatch - 1
        overlap = self._book(booking, spec, decision, now_ns=now_ns, seq=seq)
        lease = Lease(
            lease_id=lease_id,
            request_id=spec.request_id,
            worker_id=decision.worker_id,
            address=member.spec.address,
            policy=spec.policy,
            end_ns=now_ns + self._lease_unseen_ns,
            overlap_tokens=overlap,
        )
        state.leases.grant(lease)
        state.log.ended(spec.request_id, LEASED)
        request.predicted_tokens = overlap
        if state.tape is not None:
            sent = Sent(spec.request_id, 1, decision, overlap, now_ns, is_leased=True)
            state.tape.add(sent)
            state.tape.add(Closed(spec, LEASED, None, request.usage(), now_ns))
        size, worker_id = state.serving.block_size, decision.worker_id
        state.ended.ended(request, LEASED, block_size=size, worker_id=worker_id)
        state.counters.add(Count.LEASES_GRANTED)
        state.requests.close(request)
        return Grant(spec.request_id, lease_id, worker_id, lease.address, overlap)

    def _fill(self, worker_id: WorkerId, tokens: int) -> None:
        """A cache gets so many new tokens, whoever sent them."""
        state = self._state
        member = state.members.get(worker_id)
        kv_blocks = 0 if member is None else member.kv_blocks_total
        fleet_tokens = state.serving.block_size * float(state.members.kv_blocks_total)
        smallness = state.members.mean_kv_blocks / kv_blocks if kv_blocks else 1.0
        state.recent_prefill.give(worker_id, tokens, fleet_tokens, smallness=smallness)

    def _logged(self, bound: Bound) -> tuple[Decision, Member]:
        decision = bound.decision
        member = self._state.members.get(decision.worker_id)
        if member is None:
            raise BrokenInvariant(f"{decision.worker_id} was chosen and is not a member")
        self._state.log.decided(bound.ask.request_id, decision)
        return decision, member


def _expected_ms(decision: Decision) -> float:
    """Dispatch to first token, if it is alone there; 0: it is not, and nothing can be learned."""
    if decision.view.queued_tokens[decision.chosen] != 0.0:
        return 0.0
    if decision.ttft_ms is not None:
        return decision.ttft_ms
    return expected_ttft_ms(decision.view, decision.chosen)
