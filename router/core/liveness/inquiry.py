"""Inquiry: asks workers for attempts that their heartbeats do not count.

A heartbeat says how many requests of this router run at its worker. Fewer than it has acknowledged
and not ended: an end was lost there, or is on its way, for heartbeats and outputs come by different
roads. So it only gives cause to ask. The question goes where requests went, the answer comes where
outputs come, each in order: whoever is ended by it had nothing more to come (docs/queue.md).
Owns nothing. No clock, no I/O; `RouterCore` calls.
"""

from typing import Final

from radixroute.router.core.state import RouterState
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Action, AttemptName, Inquire
from radixroute.router.messages.inputs import NS_PER_S
from radixroute.router.workers.members import Member

# Four heartbeats in a row: outputs on their way are there by then, and few questions are in vain.
PATIENCE_NS: Final = NS_PER_S


class Inquiry:
    """One router's questions."""

    def __init__(self, state: RouterState) -> None:
        self._state = state

    def heard(self, member: Member, now_ns: int) -> list[Action]:
        """Its heartbeat was taken in."""
        state, worker_id = self._state, member.spec.worker_id
        since_ns = now_ns - PATIENCE_NS
        names = list[AttemptName]()
        for request_id, attempt in state.loads.unaccounted(
            worker_id, since_ns=since_ns, now_ns=now_ns
        ):
            request = state.requests.get(request_id)
            if request is not None and request.attempt == attempt:
                request.inquired = attempt
                names.append(AttemptName(request_id, attempt))
        if not names:
            return []
        state.counters.add(Count.ATTEMPTS_INQUIRED, len(names))
        return [Inquire(worker_id, tuple(names))]
