"""Breakers: workers that fail what they are given are left alone for a while.

Owns how often each failed in a row and how often its breaker opened. As Envoy's outlier detection:
five errors in a row open it for 10 s, each time 10 s longer, 300 s at most; then one good answer
closes it and the next error opens it again. Errors of clients never count. Ejection itself is
`Members`'; so is the panic threshold, in `CandidateList`. No clock: `RouterCore` calls.
"""

from dataclasses import dataclass
from typing import Final

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.members import Member, Members

ERRORS: Final = 5
OPEN_NS: Final = 10_000_000_000
MOST_OPEN_NS: Final = 300_000_000_000


@dataclass(slots=True)
class _Breaker:
    errors: int = 0  # in a row
    times_open: int = 0


class Breakers:
    """One for each worker that failed something lately."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._by_worker: dict[WorkerId, _Breaker] = {}

    def __len__(self) -> int:
        return len(self._by_worker)

    def failed(self, member: Member, now_ns: int) -> bool:
        """One more request failed there, by no fault of its own. True: its breaker opens."""
        breaker = self._by_worker.setdefault(member.spec.worker_id, _Breaker())
        breaker.errors += 1
        if breaker.errors < ERRORS or member.ejected_until_ns:
            return False
        breaker.times_open += 1
        open_ns = min(OPEN_NS * breaker.times_open, MOST_OPEN_NS)
        self._members.eject(member, now_ns + open_ns)
        breaker.errors = ERRORS - 1  # once it is tried again, one more error is enough
        return True

    def served(self, member: Member) -> None:
        """It answered one."""
        breaker = self._by_worker.get(member.spec.worker_id)
        if breaker is not None and not member.ejected_until_ns:
            del self._by_worker[member.spec.worker_id]

    def tick(self, now_ns: int) -> bool:
        """Lets those be tried again whose time is over; whether there were any."""
        over = [m for m in self._members if 0 < m.ejected_until_ns <= now_ns]
        for member in over:
            self._members.eject(member, 0)
        return bool(over)

    def forget(self, worker_id: WorkerId) -> None:
        """Its process is another one now, or it is not listed any more."""
        self._by_worker.pop(worker_id, None)
