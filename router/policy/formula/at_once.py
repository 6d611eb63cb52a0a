"""At once: a policy that is one formula. Requests go the moment they come, one at a time.

Owns nothing; what a formula must remember comes in as functions. Whoever has one in a paper or in
another router's source writes it as costs of a `View` and has a policy (`published`).
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from radixroute.radix.ids import WorkerId
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.forecast import cheapest
from radixroute.router.policy.policy import (
    Bound,
    Dispatched,
    Plan,
    Policy,
    PolicyFactory,
    PolicyParts,
)
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Scores, View
from radixroute.router.workers.load import BookingId

Pick: TypeAlias = Callable[[View], Choice]


def lowest(score: Callable[[View], Scores]) -> Pick:
    """The worker with the lowest cost; ties at random. Its terms say why."""

    def pick(view: View) -> Choice:
        scores = score(view)
        return Choice(cheapest(scores.totals, view.draw), "", scores)

    return pick


def published(score: Callable[[View], Scores]) -> PolicyFactory:
    """A policy of another router: the lowest cost of its published formula."""
    pick = lowest(score)
    return lambda parts: AtOnce(parts, pick)


class AtOnce:
    """Picks a worker for each request as it comes."""

    def __init__(
        self,
        parts: PolicyParts,
        pick: Pick,
        *,
        own: Callable[[Ask, Snapshot, View], object] | None = None,
        on_dispatch: Callable[[Dispatched], None] | None = None,
        on_settle: Callable[[BookingId], None] | None = None,
    ) -> None:
        """`pick` sees `View.own` as `own` made it: what is remembered, as of this request."""
        self._name = parts.name
        self._pick = pick
        self._own = own
        self._on_dispatch = on_dispatch
        self._on_settle = on_settle

    binds_late = False

    def elapse(self, now_ns: int) -> None:
        pass

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        return True

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        view = snapshot.view(ask)
        if view is None:
            return Plan()
        if self._own is not None:
            view = view.with_own(self._own(ask, snapshot, view))
        choice = self._pick(view)
        decision = Decision(ask.attempt + 1, self._name, view, choice.chosen, choice.reason)
        return Plan((Bound(ask, decision),))

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        return no_room(snapshot, need)

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        return one_by_one(self, waiting, snapshot)

    def scores(self, view: View) -> Scores:
        return self._pick(view).scores

    def adopt(self, plan: Plan) -> None:
        pass

    def on_dispatch(self, dispatched: Dispatched) -> None:
        if self._on_dispatch is not None:
            self._on_dispatch(dispatched)

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        pass

    def on_settle(self, booking: BookingId) -> None:
        if self._on_settle is not None:
            self._on_settle(booking)

    def on_end(self, request_id: str) -> None:
        pass

    def forget(self, worker_id: WorkerId) -> None:
        pass

    def check(self) -> None:
        pass


def one_by_one(policy: Policy, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
    """The first of those that wait: each decision changes what the next one sees."""
    first = policy.choose(waiting[0], snapshot)
    return Plan(first.bound, asks_again=bool(first.bound), own=first.own)


def no_room(snapshot: Snapshot, need: str) -> Plan | None:
    """`Policy.idle` where nobody waits but for room. Of those whom any worker may take, the first
    of the queue finds out."""
    return Plan() if need and not snapshot.has_room(need) else None
