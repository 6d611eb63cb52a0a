"""Shortest first: a queue in front of a policy that has none. Whoever has least to compute goes
first, once any worker has little enough queued.

Owns the order: each waiting request's uncached tokens as they were when it came.
"""

from collections.abc import Sequence

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.policy.formula.at_once import one_by_one
from radixroute.router.policy.policy import Dispatched, Plan, Policy
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Scores, View, cacheable_blocks
from radixroute.router.workers.load import BookingId

# Of a worker that does not say how much a step computes.
USUAL_STEP_TOKENS = 8192.0


class ShortestFirst:
    """Holds requests back while every worker has more than that share of a step queued."""

    def __init__(self, policy: Policy, threshold: float) -> None:
        self._policy = policy
        self._threshold = threshold
        self._uncached: dict[str, int] = {}  # of those that wait

    binds_late = True

    def elapse(self, now_ns: int) -> None:
        self._policy.elapse(now_ns)

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        if self._may_go(snapshot, ask.spec.need):
            return self._policy.admit(ask, snapshot)
        self._uncached[ask.request_id] = _uncached_tokens(ask, snapshot)
        return False

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        return self._policy.choose(ask, snapshot)

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        return None if self._may_go(snapshot, need) else Plan()

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        if not self._may_go(snapshot, waiting[0].spec.need):
            return Plan()
        ordered = sorted(waiting, key=lambda ask: self._uncached.get(ask.request_id, 0))
        return one_by_one(self._policy, ordered, snapshot)

    def scores(self, view: View) -> Scores:
        return self._policy.scores(view)

    def adopt(self, plan: Plan) -> None:
        self._policy.adopt(plan)

    def on_dispatch(self, dispatched: Dispatched) -> None:
        self._uncached.pop(dispatched.spec.request_id, None)
        self._policy.on_dispatch(dispatched)

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        self._policy.on_first_token(booking, now_ns)

    def on_settle(self, booking: BookingId) -> None:
        self._policy.on_settle(booking)

    def on_end(self, request_id: str) -> None:
        self._uncached.pop(request_id, None)
        self._policy.on_end(request_id)

    def forget(self, worker_id: WorkerId) -> None:
        self._policy.forget(worker_id)

    def check(self) -> None:
        self._policy.check()

    def _may_go(self, snapshot: Snapshot, need: str) -> bool:
        candidates = snapshot.beliefs.candidates.serving(need)
        limits = candidates.max_batched_tokens
        limits = np.where(np.isinf(limits), USUAL_STEP_TOKENS, limits)
        return bool((snapshot.queued_tokens(candidates) <= self._threshold * limits).any())


def _uncached_tokens(ask: Ask, snapshot: Snapshot) -> int:
    """Prompt tokens to compute where most of it is cached."""
    overlaps = snapshot.beliefs.source.overlaps(ask.spec.keys)
    best = int(np.maximum.reduce(overlaps.blocks, initial=0))
    size = snapshot.block_size
    return ask.prompt_tokens - int(min(best, cacheable_blocks(ask.prompt_tokens, size)) * size)
