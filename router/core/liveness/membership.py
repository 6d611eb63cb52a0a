"""Membership: what a worker's coming, going and silence mean for the requests on it.

Owns no state; drives `Members` through its transitions and hands the requests of a lost worker to
the dispatcher. No clock, no I/O; `RouterCore` and `Watch` call.
"""

from collections.abc import Sequence

from radixroute.radix.ids import WorkerId
from radixroute.router.core.booking import Booker
from radixroute.router.core.dispatcher import Dispatcher
from radixroute.router.core.logs.tape import WorkerJoined, WorkerLost
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action, Connect, Disconnect, Drop
from radixroute.router.messages.inputs import MemberSpec, WorkerFacts
from radixroute.router.workers.members import Member, MemberState

SILENT = "no heartbeat"
STUCK = "its engine finishes no step"
UNLISTED = "no longer listed"


class Membership:
    """The fleet's comings and goings."""

    def __init__(self, state: RouterState, booker: Booker, dispatcher: Dispatcher) -> None:
        self._state = state
        self._booker = booker
        self._dispatcher = dispatcher

    def set_members(self, specs: Sequence[MemberSpec], now_ns: int) -> list[Action]:
        listed = {spec.worker_id: spec for spec in specs}
        actions: list[Action] = []
        for member in list(self._state.members):
            if member.spec.worker_id not in listed:
                actions += self._unlist(member)
        for spec in specs:
            actions += self._list(spec, now_ns)
        return actions

    def joined(self, facts: WorkerFacts, now_ns: int) -> list[Action]:
        state = self._state
        member = state.members.get(facts.worker_id)
        if member is None:
            return []
        if member.is_connected:
            return []
        # A life that fell silent must be heard first, or each rejoin would cost requests a death.
        is_mute = member.fell_silent and member.epoch == facts.epoch
        if is_mute:
            state.members.move(member, MemberState.SUSPECT, SILENT)
        else:
            state.members.move(member, MemberState.LIVE)
        state.members.accept(member, facts)
        state.audit.begin(facts.worker_id, facts.epoch, is_believed=facts.is_cache_believed)
        member.last_heard_ns = now_ns
        if state.tape is not None:
            state.tape.add(WorkerJoined(facts, now_ns))
        state.serving.block_size = facts.block_size
        state.serving.eos_token_ids = facts.eos_token_ids
        state.counters.add(Count.JOINS_ACCEPTED)
        return []

    def refused(self, worker_id: WorkerId, reason: str) -> None:
        member = self._state.members.get(worker_id)
        if member is None or member.is_connected:
            return
        if member.state is not MemberState.REFUSED:
            self._state.counters.add(Count.JOINS_REFUSED)
            self._state.members.move(member, MemberState.REFUSED)
        member.reason = reason

    def lost(self, worker_id: WorkerId, reason: str, now_ns: int) -> list[Action]:
        member = self._state.members.get(worker_id)
        if member is None or not member.is_connected:
            return []
        was_listed = member.state is not MemberState.DRAINING
        self._state.members.move(member, MemberState.DEAD, reason)
        member.deaths += 1
        member.fell_silent = reason in (SILENT, STUCK)
        self._state.counters.add(Count.WORKERS_DIED)
        if self._state.tape is not None:
            self._state.tape.add(WorkerLost(worker_id, reason, now_ns))
        self._state.recent_prefill.forget(worker_id)
        self._state.selector.forget(worker_id)
        self._state.breakers.forget(worker_id)
        self._state.members.eject(member, 0)
        actions: list[Action] = [Drop(worker_id), *self._take_back(member, now_ns)]
        if not was_listed:
            actions += self._forget(member)
        return actions

    def heard(self, member: Member, now_ns: int) -> None:
        """A sign of life; and if it sent requests back, it may have room by now."""
        member.last_heard_ns = now_ns
        self._state.members.fill(member, is_full=False)
        if member.state is MemberState.SUSPECT:
            self._state.members.move(member, MemberState.LIVE)

    def suspect(self, member: Member, reason: str) -> None:
        """Not well for a while: no new requests."""
        self._state.members.move(member, MemberState.SUSPECT, reason)
        self._state.counters.add(Count.WORKERS_SUSPECTED)

    def settle_drained(self, worker_id: WorkerId | None) -> list[Action]:
        """Lets a member go that is no longer listed and has nothing left to do."""
        member = None if worker_id is None else self._state.members.get(worker_id)
        if member is None or member.state is not MemberState.DRAINING:
            return []
        return [] if self._state.loads.n_booked(member.spec.worker_id) else self._forget(member)

    def _list(self, spec: MemberSpec, now_ns: int) -> list[Action]:
        member = self._state.members.get(spec.worker_id)
        if member is None:
            self._state.members.add(spec)
            return [Connect(spec)]
        if member.spec != spec:
            # Another process under the same name: the old one's requests cannot go on there.
            actions = self.lost(spec.worker_id, "replaced", now_ns)
            if self._state.members.get(spec.worker_id) is None:
                return [*actions, *self._list(spec, now_ns)]
            self._state.members.relist(member, spec)
            return [*actions, Disconnect(spec.worker_id), Connect(spec)]
        if member.state is MemberState.DRAINING:
            self._state.members.move(member, MemberState.LIVE)
        return []

    def _unlist(self, member: Member) -> list[Action]:
        if member.state is MemberState.DRAINING:
            return []
        if member.is_connected and self._state.loads.n_booked(member.spec.worker_id):
            self._state.members.move(member, MemberState.DRAINING, UNLISTED)
            return []
        return self._forget(member)

    def _forget(self, member: Member) -> list[Action]:
        worker_id = member.spec.worker_id
        if self._state.tape is not None and member.is_connected:
            self._state.tape.add(WorkerLost(worker_id, UNLISTED, self._state.idle.last_ns))
        self._state.loads.forget_worker(worker_id)
        self._state.speeds.forget(worker_id)
        self._state.recent_prefill.forget(worker_id)
        self._state.selector.forget(worker_id)
        self._state.breakers.forget(worker_id)
        self._state.audit.forget(worker_id)
        self._state.members.forget(worker_id)
        return [Disconnect(worker_id)]

    def _take_back(self, member: Member, now_ns: int) -> list[Action]:
        """Requests and leases of a lost worker, oldest first."""
        worker_id = member.spec.worker_id
        for lease in self._state.leases.on_worker(worker_id):
            self._state.leases.end(lease.lease_id)
            self._booker.settle_lease(lease)
        actions: list[Action] = []
        for booking in self._state.loads.booked(worker_id):
            request = self._state.requests.get(booking.request_id)
            if request is not None:
                # Nobody is left to say that the engine gave it up: the process may be what ended.
                actions += self._dispatcher.lose_session(
                    request, member, now_ns, process=member.process
                )
        self._state.loads.forget_worker(worker_id)
        return actions
