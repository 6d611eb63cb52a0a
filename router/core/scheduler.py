"""Scheduler: the front of the queue meets the workers that can take something now.

Owns when to look again. The order is the queue's; inside its bounded front each policy has its own.
Requests whose policy never waits by itself go only once no request ahead of them waits for a plan:
else whoever plans would starve behind whoever does not. Who has a need holds back nobody
whom other workers can take. No clock, no I/O; `RouterCore` calls.
"""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.core.booking import Booker
from radixroute.router.core.queue.line import Line
from radixroute.router.core.requests import Request
from radixroute.router.core.state import RouterState
from radixroute.router.messages.actions import Action
from radixroute.router.policy.policy import Plan
from radixroute.router.policy.snapshot import Snapshot

# Requests looked at in one schedule: bounds what an input costs, however many wait.
FRONT: Final = 128


@dataclass(slots=True)
class _Closed:
    """Needs whose requests nobody takes now, and how many of these wait."""

    busy: set[str] = field(default_factory=set)  # none at all may be one of them
    parked: set[str] = field(default_factory=set)  # no worker that serves it takes requests at all
    n_requests: int = 0
    n_weighed: int = 0  # of these: idle workers idle on purpose, or cannot serve them


class Scheduler:
    """One router's schedule."""

    def __init__(self, state: RouterState, booker: Booker) -> None:
        self._state = state
        self._booker = booker
        self._wake_ns: int | None = None

    @property
    def wake_ns(self) -> int | None:
        """When waiting requests should be scheduled though nothing may have happened by then."""
        return self._wake_ns

    def schedule(self, now_ns: int) -> list[Action]:
        """Hands waiting requests to workers that can take them now."""
        self._wake_ns = None
        waiting, closed = self._state.waiting, self._closed(now_ns)
        if closed.n_requests == len(waiting):
            if closed.n_weighed == len(waiting):
                self._state.idle.weighed()
            return []
        front = waiting.front(now_ns, FRONT, busy=closed.busy, parked=closed.parked)
        actions = self._resume(front.lost, now_ns)
        n_weighed, is_held = closed.n_weighed, False
        for requests in front.levels:
            weighed, is_held = self._schedule_level(requests, closed.busy, is_held, now_ns, actions)
            n_weighed += weighed
        if n_weighed == len(waiting):
            self._state.idle.weighed()
        return actions

    def plan_one(self, request: Request, now_ns: int) -> Action | None:
        """Of a request that nobody waits before and that is not in the queue. None: it waits."""
        self._wake_ns = None
        policy = self._state.selector.policy(request.spec.policy)
        policy.elapse(now_ns)
        plan = policy.plan([request], self._booker.snapshot(now_ns))
        policy.adopt(plan)
        self._note_wake(plan)
        if plan.bound:
            return self._booker.bind(request, plan.bound[0], now_ns)
        if plan.is_weighed:
            self._state.idle.weighed()
        return None

    def _closed(self, now_ns: int) -> "_Closed":
        """Whose requests every policy that they name would bind nowhere. O(workers) for each of
        these and for each need of who waits."""
        closed, waiting = _Closed(), self._state.waiting
        snapshot = self._booker.snapshot(now_ns)
        for need, line in waiting.lines.items():
            if need and not snapshot.beliefs.candidates.serving(need).worker_ids:
                closed.parked.add(need)
                closed.n_requests += len(line)
                closed.n_weighed += len(line)
            elif len(line) and not line.lost:
                plans = self._idle(line, snapshot, now_ns)
                if plans is not None:
                    closed.busy.add(need)
                    closed.n_requests += len(line)
                    closed.n_weighed += len(line) if all(plan.is_weighed for plan in plans) else 0
                    for plan in plans:
                        self._note_wake(plan)
        return closed

    def _idle(self, line: Line, snapshot: Snapshot, now_ns: int) -> list[Plan] | None:
        """What its policies say that would bind nothing. None: one of them might."""
        plans = list[Plan]()
        for name in line.policies:
            policy = self._state.selector.policy(name)
            policy.elapse(now_ns)
            plan = policy.idle(snapshot, line.need)
            if plan is None:
                return None
            plans.append(plan)
        return plans

    def _resume(self, lost: list[Request], now_ns: int) -> list[Action]:
        """Who lost a worker has waited already, and not everybody may have it: no plans."""
        actions = list[Action]()
        for request in lost:
            action = self._booker.dispatch(request, now_ns)
            if action is not None:
                actions.append(action)
        return actions

    def _schedule_level(
        self,
        requests: list[Request],
        busy: Container[str],
        is_held: bool,
        now_ns: int,
        actions: list[Action],
    ) -> tuple[int, bool]:
        """How many still wait and were weighed against every worker; and whether any of these, or
        (`is_held`) of those ahead, waits by a plan. Nobody can take whose needs are `busy`.
        """
        # Who has a need is planned apart: not every worker meets it.
        groups: dict[tuple[str, str], list[Request]] = {}
        for request in requests:
            spec = request.spec
            if spec.need not in busy:
                groups.setdefault((spec.policy, spec.need), []).append(request)
        selector = self._state.selector
        named = {request.spec.policy for request in requests}
        planned = {name for name in named if selector.policy(name).binds_late}
        n_weighed = 0
        for (name, _), group in groups.items():
            if name in planned:
                n_weighed += self._schedule_policy(name, group, now_ns, actions)
        for request in requests:
            if request.spec.policy in planned:
                is_held = is_held or request in self._state.waiting
            elif not is_held and request.spec.need not in busy:
                action = self._booker.dispatch(request, now_ns)
                if action is None:
                    if request.spec.need:
                        continue  # only those that meet its need have no room
                    break  # no worker has room: for those behind it neither
                actions.append(action)
        return n_weighed, is_held

    def _schedule_policy(
        self, name: str, requests: list[Request], now_ns: int, actions: list[Action]
    ) -> int:
        """Those of one policy that waits by its own rule; how many were weighed and still wait."""
        policy = self._state.selector.policy(name)
        policy.elapse(now_ns)
        while requests:
            plan = policy.plan(requests, self._booker.snapshot(now_ns))
            policy.adopt(plan)
            self._note_wake(plan)
            for bound in plan.bound:
                request = self._waiting(bound.ask.request_id)
                actions.append(self._booker.bind(request, bound, now_ns))
            if plan.bound:
                gone = {bound.ask.request_id for bound in plan.bound}
                requests = [request for request in requests if request.request_id not in gone]
            if not plan.asks_again:
                return len(requests) if plan.is_weighed else 0
        return 0

    def _note_wake(self, plan: Plan) -> None:
        if plan.wake_ns is not None:
            wake_ns = self._wake_ns
            self._wake_ns = plan.wake_ns if wake_ns is None else min(wake_ns, plan.wake_ns)

    def _waiting(self, request_id: str) -> Request:
        request = self._state.requests.get(request_id)
        if request is None or request not in self._state.waiting:
            raise BrokenInvariant(f"request {request_id} was bound and does not wait")
        return request
