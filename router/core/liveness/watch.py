"""Watch: what time alone does. Silent workers, deadlines, waits, leases, expectations.

Owns when it last looked, so that a pause of this very process is not mistaken for the silence of
others. No clock of its own: `RouterCore.tick` passes the time.
"""

from functools import partial
from itertools import takewhile

from radixroute.router.core.booking import Booker
from radixroute.router.core.dispatcher import Dispatcher
from radixroute.router.core.liveness.membership import SILENT, STUCK, Membership
from radixroute.router.core.requests import Request
from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action, Failure
from radixroute.router.messages.inputs import NS_PER_S
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.members import Member, MemberState

# Ticks come each 100 ms; one this late means that we were stopped, and so was our reading of
# heartbeats. Two heartbeat periods: less is ordinary scheduling.
LATE_TICK_NS = NS_PER_S // 2
# The longest rest of a router that has nothing to do.
MOST_REST_NS = NS_PER_S


class Watch:
    """One router's sense of time."""

    def __init__(
        self,
        state: RouterState,
        booker: Booker,
        dispatcher: Dispatcher,
        membership: Membership,
        settings: RouterSettings,
    ) -> None:
        self._state = state
        self._booker = booker
        self._dispatcher = dispatcher
        self._membership = membership
        self._suspect_after_ns = round(settings.suspect_after_s * NS_PER_S)
        self._dead_after_ns = round(settings.dead_after_s * NS_PER_S)
        self._stuck_suspect_ms = settings.stuck_suspect_after_s * 1000
        self._stuck_dead_ms = settings.stuck_dead_after_s * 1000
        self._no_worker_wait_ns = round(settings.no_worker_wait_s * NS_PER_S)
        self._last_tick_ns: int | None = None
        self._due_ns = 0  # when the next tick was said to be due; 0: soon after the last
        self._last_hope_ns = 0  # when there was a worker that serves, or may before long
        # Needs that somebody waits with and nobody serves or may before long: since when.
        self._without_hope_ns: dict[str, int] = {}

    def heartbeat(
        self, member: Member, step_age_ms: float, now_ns: int, heard_ns: int | None = None
    ) -> list[Action]:
        """The process lives; whether its engine does shows in the age of its last step."""
        member.step_age_ms = step_age_ms
        if heard_ns is None:
            heard_ns = now_ns
        heard_ns = max(heard_ns, member.last_heard_ns)
        if step_age_ms < self._stuck_suspect_ms:
            self._membership.heard(member, heard_ns)
            return []
        member.last_heard_ns = heard_ns
        if step_age_ms >= self._stuck_dead_ms:
            return self._membership.lost(member.spec.worker_id, STUCK, now_ns)
        if member.state is MemberState.LIVE:
            self._membership.suspect(member, STUCK)
        return []

    def tick(self, now_ns: int) -> list[Action]:
        self._excuse_own_pause(now_ns)
        actions: list[Action] = []
        for member in list(self._state.members):
            if member.is_connected:
                actions += self._watch_silence(member, now_ns)
        actions += self._watch_requests(now_ns)
        for lease in self._state.leases.lapsed(now_ns):
            self._state.leases.end(lease.lease_id)
            self._booker.settle_lease(lease)
            self._state.counters.add(Count.LEASES_LAPSED)
        self._state.counters.add(Count.EXPECTED_LAPSED, self._state.expected.expire(now_ns))
        self._state.selector.elapse(now_ns)
        self._state.breakers.tick(now_ns)
        for member in list(self._state.members):
            actions += self._membership.settle_drained(member.spec.worker_id)
        return actions

    def rest(self, now_ns: int) -> int:
        """Nobody waits for anything: when the next tick is due. The silence of some worker will
        mean something then if it lasts, or a breaker closes. O(workers)."""
        due_ns = now_ns + MOST_REST_NS
        for member in self._state.members:
            if member.is_connected:
                is_well = member.state is MemberState.LIVE
                after_ns = self._suspect_after_ns if is_well else self._dead_after_ns
                due_ns = min(due_ns, member.last_heard_ns + after_ns)
            if member.ejected_until_ns:
                due_ns = min(due_ns, member.ejected_until_ns)
        self._due_ns = max(due_ns, now_ns)
        return self._due_ns

    def _excuse_own_pause(self, now_ns: int) -> None:
        last_ns, self._last_tick_ns = self._last_tick_ns, now_ns
        due_ns, self._due_ns = self._due_ns, 0
        if last_ns is None:
            return
        late_ns = now_ns - max(last_ns, due_ns)
        if late_ns < LATE_TICK_NS:
            return
        self._state.counters.add(Count.TICKS_LATE)
        for member in self._state.members:
            member.last_heard_ns = min(now_ns, member.last_heard_ns + late_ns)

    def _watch_silence(self, member: Member, now_ns: int) -> list[Action]:
        silent_ns = now_ns - member.last_heard_ns
        if silent_ns >= self._dead_after_ns:
            return self._membership.lost(member.spec.worker_id, SILENT, now_ns)
        if silent_ns >= self._suspect_after_ns and member.state is MemberState.LIVE:
            self._membership.suspect(member, SILENT)
        return []

    def _watch_requests(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for request_id in self._state.deadlines.passed(now_ns):
            request = self._state.requests.get(request_id)
            # A resume has the id of the stream that it ended, and a time of its own.
            if request is not None and request.spec.deadline_ns <= now_ns:
                actions += self._dispatcher.fail(request, Failure.DEADLINE, now_ns)
        return actions + self._watch_waiting(now_ns) + self._watch_begun(now_ns)

    def _watch_waiting(self, now_ns: int) -> list[Action]:
        """Who waits for nobody: no worker serves, or none that meets its need, and none may
        before long. O(needs of who waits), and for each that ends."""
        members, waiting = self._state.members, self._state.waiting
        if members.absent or any(member.may_serve for member in members):
            self._last_hope_ns = now_ns
        is_hopeless = now_ns - self._last_hope_ns >= self._no_worker_wait_ns
        fleet, actions = members.adapters, list[Action]()
        before, self._without_hope_ns = self._without_hope_ns, {}
        for line in list(waiting.lines.values()):
            is_over = is_hopeless
            if not fleet.may_serve(line.need):
                since_ns = before.get(line.need, now_ns)
                self._without_hope_ns[line.need] = since_ns
                is_over = is_over or now_ns - since_ns >= self._no_worker_wait_ns
            if is_over:
                for request in list(takewhile(partial(self._has_waited, now_ns), line)):
                    actions += self._dispatcher.fail(request, Failure.NO_WORKERS, now_ns)
        return actions

    def _watch_begun(self, now_ns: int) -> list[Action]:
        """Whose answer nobody goes on with any more waits no longer than for any worker."""
        members, waiting = self._state.members, self._state.waiting
        if not (members.had_limited and waiting.n_lost) or members.absent:
            return []
        actions: list[Action] = []
        for request in list(waiting):
            begun = request.begun_with
            if begun is None or not self._has_waited(now_ns, request):
                continue
            if not members.has_successor(begun):
                actions += self._dispatcher.fail(request, Failure.NOT_RESUMABLE, now_ns)
        return actions

    def _has_waited(self, now_ns: int, request: Request) -> bool:
        return now_ns - request.waiting_since_ns >= self._no_worker_wait_ns
