"""Prefix approx: the radix policy without cache events, on what its own decisions make it believe.

Owns the learned blocks: a prompt's blocks are thought to be where it was last sent, for a time to
live. docs/policy.md has what that costs.
"""

from collections.abc import Sequence

from radixroute.radix.ids import WorkerId
from radixroute.router.counters import Count
from radixroute.router.policy.candidates import CandidateList
from radixroute.router.policy.policy import Dispatched, Plan, PolicyParts
from radixroute.router.policy.radix.learned import LearnedBlocks
from radixroute.router.policy.radix.radix_policy import RadixPolicy
from radixroute.router.policy.snapshot import Ask, Beliefs, Snapshot
from radixroute.router.policy.view import Scores, View
from radixroute.router.workers.load import BookingId


class PrefixApprox:
    """`RadixPolicy` over learned blocks."""

    def __init__(self, parts: PolicyParts) -> None:
        self.learned = LearnedBlocks(round(parts.settings.learned_ttl_s * 1e9))
        candidates = CandidateList(parts.members, needs_events=False)
        # What was learned holds what is on its way already: nothing is expected beside it.
        self._radix = RadixPolicy(parts, beliefs=Beliefs(self.learned, candidates, None))
        self._counters = parts.counters

    @property
    def binds_late(self) -> bool:
        return self._radix.binds_late

    def elapse(self, now_ns: int) -> None:
        self._counters.add(Count.LEARNED_LAPSED, self.learned.expire(now_ns))

    def admit(self, ask: Ask, snapshot: Snapshot) -> bool:
        return self._radix.admit(ask, snapshot)

    def choose(self, ask: Ask, snapshot: Snapshot) -> Plan:
        return self._radix.choose(ask, snapshot)

    def idle(self, snapshot: Snapshot, need: str) -> Plan | None:
        return self._radix.idle(snapshot, need)

    def plan(self, waiting: Sequence[Ask], snapshot: Snapshot) -> Plan:
        return self._radix.plan(waiting, snapshot)

    def scores(self, view: View) -> Scores:
        return self._radix.scores(view)

    def adopt(self, plan: Plan) -> None:
        self._radix.adopt(plan)

    def on_dispatch(self, dispatched: Dispatched) -> None:
        forgotten = self.learned.learn(
            dispatched.decision.worker_id,
            dispatched.spec.keys,
            capacity=dispatched.kv_blocks,
            now_ns=dispatched.now_ns,
        )
        self._counters.add(Count.LEARNED_FORGOTTEN, forgotten)

    def on_first_token(self, booking: BookingId, now_ns: int) -> None:
        self._radix.on_first_token(booking, now_ns)

    def on_settle(self, booking: BookingId) -> None:
        self._radix.on_settle(booking)

    def on_end(self, request_id: str) -> None:
        self._radix.on_end(request_id)

    def forget(self, worker_id: WorkerId) -> None:
        self.learned.forget(worker_id)

    def check(self) -> None:
        self.learned.check()
