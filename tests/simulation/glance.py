"""Glance: the little of a router that is looked at after each input, where a whole snapshot of it
would cost more than the input did.

Each so often, and at the end, it is held against the snapshot that the product takes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from radixroute.radix.ids import WorkerId
from radixroute.router.core.snapshot import RouterSnapshot
from radixroute.router.core.state import RouterState
from radixroute.router.workers.claims import AuditRecord


class WorkerGlance(NamedTuple):
    """One worker, listed or coming up."""

    worker_id: WorkerId
    state: str
    is_fresh: bool
    in_flight: int
    audit: AuditRecord


class Glance(NamedTuple):
    """One router."""

    workers: tuple[WorkerGlance, ...]  # by id
    in_flight: Mapping[WorkerId, int]  # of those that left, too
    running: int
    leases: int


def glance_at(state: RouterState) -> Glance:
    """O(workers)."""
    n_booked, audit = state.loads.n_booked, state.audit.of
    workers = [
        WorkerGlance(
            name := member.spec.worker_id,
            member.state.value,
            member.is_believed,
            n_booked(name),
            audit(name),
        )
        for member in state.members
    ]
    in_flight = {seen.worker_id: seen.in_flight for seen in workers}
    absent = [one for one in state.members.absent if one.worker_id not in in_flight]
    if absent:
        workers += [
            WorkerGlance(
                one.worker_id, one.why.value, False, n_booked(one.worker_id), AuditRecord()
            )
            for one in absent
        ]
        workers.sort()
    for name in state.hits.workers():
        if name not in in_flight:
            in_flight[name] = n_booked(name)
    return Glance(tuple(workers), in_flight, len(state.requests), len(state.leases))


def glance_of(snapshot: RouterSnapshot) -> Glance:
    """The same, as the product shows it."""
    workers = tuple(
        WorkerGlance(seen.worker_id, seen.state, seen.is_fresh, seen.in_flight, seen.audit)
        for seen in snapshot.workers
    )
    return Glance(workers, snapshot.in_flight, snapshot.running, snapshot.leases)
