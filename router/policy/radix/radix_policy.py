"""Radix policy: where first token and harm together cost least, bound when a worker can start it.

Owns what is usual (waits, prefills) and the accounts of replicas. Waiting
requests are planned together (`kernels.plan`); `radix_at_once` sends each as it comes instead.
docs/policy.md has the reasons.
"""

from collections.abc import Sequence

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.forecast import cheapest
from radixroute.router.policy.formula.at_once import no_room, one_by_one
from radixroute.router.policy.policy import Bound, Dispatched, Plan, PolicyParts
from radixroute.router.policy.radix.beginnings import Beginnings
from radixroute.router.policy.radix.planning import (
    Books,
    Desk,
    Pace,
    Question,
    Weighed,
    desk_for,
    plan_together,
)
from radixroute.router.policy.radix.replicas import Replicas, longest_held, name_of
from radixroute.router.policy.radix.scores import (
    Terms,
    Usual,
    kernels,
    radix_scores,
    scored,
)
from radixroute.router.policy.radix.weights import WEIGHTS, Weights
from radixroute.router.policy.snapshot import Ask, Beliefs, Snapshot
from radixroute.router.policy.view import Numbers, Scores, View
from radixroute.router.workers.load import BookingId


class RadixPolicy:
    """The default policy. `beliefs`: other than those of cache events."""

    def __init__(
        self,
        parts: PolicyParts,
        *,
        binds_late: bool = True,
        beliefs: Beliefs | None = None,
        weights: Weights = WEIGHTS,
    ) -> None:
        self._name = parts.name
        self._binds_late = binds_late
        self._beliefs = beliefs
        self._weights = weights
        self._lead_ms = float(parts.settings.dispatch_lead_ms)
        self._books = Books(Replicas(parts.counters, share=weights.copies), Beginnings())
        self._pace = Pace()
        self._desk: Desk | None = None  # of the last plan of one request: nearly all are

    @property
    def binds_late(self) -> bool:
        return self._binds_late

    def elapse(self, now_ns: int) -> None:
        pass

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        if self._binds_late:
            snapshot.draw(ask)  # now, so that who waits need not be looked at while nobody is free
        return not self._binds_late

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        view = snapshot.view(ask, self._beliefs)
        if view is None:
            return Plan()
        prefix = name_of(ask.spec.keys, longest_held(view.held_blocks))
        view = view.with_own(
            Terms(
                output_tokens=snapshot.expected_output(ask),
                replica_ms=self._books.replicas.credit_ms(prefix, ask.request_id),
                followers=self._books.beginnings.followers_of(prefix, ask.request_id),
                mean_prefill_ms=self._pace.prefill_ms,
                compute=self._compute(),
            )
        )
        scores, least = scored(view, self._weights)
        totals = scores.totals
        chosen = cheapest(totals, view.draw)
        spent_ms = -float(scores.terms[-1, chosen])
        lost_ms = 0.0 if spent_ms > 0.0 else float(totals[chosen]) - least
        decision = Decision(
            attempt=ask.attempt + 1,
            policy=self._name,
            view=view,
            chosen=chosen,
            ttft_ms=float(scores.terms[:3, chosen].sum()),
        )
        weighed = Weighed(ask.request_id, prefix, lost_ms, spent_ms, is_bound=True)
        return Plan((Bound(ask, decision),), own=(weighed,))

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        if not self._binds_late:
            return no_room(snapshot, need)
        candidates = (self._beliefs or snapshot.beliefs).candidates.serving(need)
        if not candidates.worker_ids:
            return Plan(is_weighed=True)
        table, n_free = snapshot.table(candidates)
        # Whatever they would rather have, they wait.
        return None if n_free else self._waits(table, snapshot.now_ns)

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        """Those of the waiting requests whose best worker can start them now."""
        if not self._binds_late:
            return one_by_one(self, waiting, snapshot)
        beliefs = self._beliefs or snapshot.beliefs
        first = beliefs.source.overlaps(waiting[0].spec.keys)
        need = waiting[0].spec.need  # of all of them
        candidates = beliefs.candidates.current(first.holders, set(), need)
        if not candidates.worker_ids:
            return Plan(is_weighed=True)
        table, n_free = snapshot.table(candidates)
        draws = [snapshot.draw(ask) for ask in waiting]
        if not n_free:
            return self._waits(table, snapshot.now_ns)
        rest = [beliefs.source.overlaps(ask.spec.keys) for ask in waiting[1:]]
        believed = [
            beliefs.believed(ask.spec.keys, candidates, overlaps)
            for ask, overlaps in zip(waiting, [first, *rest], strict=True)
        ]
        question = Question(self._name, waiting, candidates, snapshot, draws, believed)
        desk = self._desk_for(len(waiting), table.shape[1])
        usual = self._usual(snapshot)
        backlog_ms = table[at.BACKLOG_MS].copy()  # planning adds those that wait for a worker
        plan = plan_together(question, table, usual, self._books, desk)
        if len(plan.bound) == len(waiting):
            return plan
        for bound in plan.bound:
            chosen = bound.decision.chosen
            backlog_ms[chosen] = table[at.BACKLOG_MS, chosen]
        return plan._replace(wake_ns=self._next_wake(backlog_ms, snapshot.now_ns))

    def scores(self, view: View) -> Scores:
        return radix_scores(view, self._weights)

    def adopt(self, plan: Plan) -> None:
        replicas, beginnings = self._books
        weighed: Weighed
        for weighed in plan.own or ():
            replicas.lost(weighed.prefix, weighed.lost_ms, weighed.request_id)
            replicas.spent(weighed.prefix, weighed.spent_ms)
            if weighed.pace_ms is not None:
                self._pace.bound(*weighed.pace_ms)
            if weighed.is_bound:
                beginnings.bound(weighed.prefix, weighed.request_id)

    def on_dispatch(self, dispatched: Dispatched) -> None:
        pass

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        pass

    def on_settle(self, booking: BookingId) -> None:
        pass

    def on_end(self, request_id: str) -> None:
        self._books.replicas.ended(request_id)

    def forget(self, worker_id: WorkerId) -> None:
        pass

    def check(self) -> None:
        pass

    def _usual(self, snapshot: Snapshot) -> Usual:
        usual: Usual = kernels().Usual(
            block_size=float(snapshot.block_size),
            lead_ms=self._lead_ms,
            mean_wait_ms=self._pace.wait_ms,
            mean_prefill_ms=self._pace.prefill_ms,
            compute=self._compute(),
            weights=self._weights,
        )
        return usual

    def _desk_for(self, n_requests: int, n_workers: int) -> Desk:
        desk = self._desk
        if desk is not None and desk.is_for(n_requests, n_workers):
            return desk
        desk = desk_for(n_requests, n_workers)
        if n_requests == 1:
            self._desk = desk
        return desk

    def _waits(self, table: Numbers, now_ns: int) -> Plan:
        return Plan(is_weighed=True, wake_ns=self._next_wake(table[at.BACKLOG_MS], now_ns))

    def _next_wake(self, backlog_ms: Numbers, now_ns: int) -> int | None:
        """When the next busy worker will be nearly done with what it has."""
        if self._lead_ms <= 0.0:
            return None  # only what really ended counts
        ahead = backlog_ms - self._lead_ms
        ahead = ahead[ahead > 0.0]
        return now_ns + int(np.ceil(ahead.min() * 1e6)) if len(ahead) else None

    def _compute(self) -> float:
        """What a millisecond of computing costs those who come next."""
        return self._weights.compute + min(self._weights.most_delayed, self._pace.delayed)
