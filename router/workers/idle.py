"""Idle while waiting: for how long each worker had nothing to run while requests waited here.

Owns the sums, exact on the router's clock. Between two inputs nothing changes that this router
knows, so `elapse`, at the start of each input, books the time since the last one to every live
worker without a request in flight. Whether that time was planned is what `weighed` says. No clock,
no I/O; `RouterCore` calls.
"""

from dataclasses import dataclass

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.load import LoadBook
from radixroute.router.workers.members import Members, MemberState


@dataclass(slots=True)
class WorkerIdle:
    """One worker's sums in nanoseconds; only `IdleBook` may change them."""

    # A plan weighed this worker for every request that waited: they would rather wait for others.
    planned_ns: int = 0
    # No plan did: requests waited by another rule, or nobody looked since it fell idle.
    avoidable_ns: int = 0
    # A request that had waited was on its way here: dispatch to the start of its first step.
    starting_ns: int = 0


class IdleBook:
    """Sums by worker. Workers that left keep theirs: the past does not change."""

    def __init__(self, members: Members, loads: LoadBook) -> None:
        self._members = members
        self._loads = loads
        self._by_worker: dict[WorkerId, WorkerIdle] = {}
        self._sent_ns: dict[WorkerId, int] = {}  # dispatches to idle workers, no step heard since
        self._last_ns = 0
        self._is_weighed = False
        self._idle: list[WorkerId] = []  # live workers without a request in flight
        self._as_of = (-1, -1)  # the members' version then, and how often one had turned

    def elapse(self, now_ns: int, *, n_waiting: int) -> None:
        """Time has come to `now_ns` and nothing else has changed yet. O(idle workers) while some
        wait, and O(workers) where one has become busy or idle.

        What follows may leave a worker idle without a plan: until `weighed`, its idling is not
        planned.
        """
        spent_ns = now_ns - self._last_ns
        self._last_ns = max(self._last_ns, now_ns)
        if n_waiting and spent_ns > 0:
            for worker_id in self._idle_now():
                sums = self._by_worker.setdefault(worker_id, WorkerIdle())
                if self._is_weighed:
                    sums.planned_ns += spent_ns
                else:
                    sums.avoidable_ns += spent_ns
        self._is_weighed = False

    @property
    def last_ns(self) -> int:
        """Of the last input."""
        return self._last_ns

    def weighed(self) -> None:
        """Every request that still waits was weighed against every live worker, just now."""
        self._is_weighed = True

    def sent(self, worker_id: WorkerId, now_ns: int) -> None:
        """A request that had waited goes to a worker that has nothing else."""
        self._sent_ns[worker_id] = now_ns

    def stepped(self, worker_id: WorkerId, start_ns: int) -> None:
        """A step that began then was heard of; before the plan that may send it more."""
        sent_ns = self._sent_ns.pop(worker_id, None)
        if sent_ns is not None:
            sums = self._by_worker.setdefault(worker_id, WorkerIdle())
            sums.starting_ns += max(0, start_ns - sent_ns)

    def lost(self, worker_id: WorkerId) -> None:
        """Its session is gone: what was sent starts elsewhere."""
        self._sent_ns.pop(worker_id, None)

    def of(self, worker_id: WorkerId) -> WorkerIdle:
        return self._by_worker.get(worker_id, WorkerIdle())

    def check(self) -> None:
        for worker_id, sums in self._by_worker.items():
            if min(sums.planned_ns, sums.avoidable_ns, sums.starting_ns) < 0:
                raise BrokenInvariant(f"{worker_id}: it idled for less than no time")

    def _idle_now(self) -> list[WorkerId]:
        as_of = self._members.version, self._loads.n_turns
        if self._as_of != as_of:
            live = [m.spec.worker_id for m in self._members if m.state is MemberState.LIVE]
            self._idle = [worker_id for worker_id in live if worker_id not in self._loads.busy]
            self._as_of = as_of
        return self._idle
