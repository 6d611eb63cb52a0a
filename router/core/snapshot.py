"""Router snapshot: what there is to see of one router, as plain records.

Taken for those who look (`Inspect`, a metrics page); nothing in it changes later. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from radixroute.events.wire.control import Endpoints
from radixroute.radix.ids import WorkerId
from radixroute.router.core.hits import WorkerHits
from radixroute.router.core.latencies import EndLatencies
from radixroute.router.core.queue.admission import House
from radixroute.router.core.state import RouterState
from radixroute.router.messages.inputs import AbsentWorker
from radixroute.router.workers.claims import AuditRecord
from radixroute.router.workers.idle import WorkerIdle
from radixroute.router.workers.members import Member


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker: listed, or kept by the controller and coming up."""

    worker_id: WorkerId
    address: str
    state: str
    epoch: str  # hexadecimal
    reason: str  # of that state, if there is one
    is_fresh: bool  # its cache may be believed
    is_resting: bool  # its breaker is open
    deaths: int
    step_age_ms: float
    in_flight: int  # requests and leases of this router
    queued_tokens: int
    kv_blocks_total: int
    kv_blocks_used: int
    max_batched_tokens: int
    max_num_seqs: int
    compat: Endpoints | None
    metrics_address: str
    adapters: frozenset[str]  # that it serves, or did when it was heard of last
    idle: WorkerIdle
    audit: AuditRecord


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """Who waits. Requests unless named otherwise; whoever lost a worker stands in no lane."""

    by_band: tuple[int, ...]  # those that lost a worker, too
    by_tenant: Mapping[str, int]
    by_policy: Mapping[str, int]  # those that lost a worker, too
    lost: int
    tokens: int  # of all prompts
    retry_after_ms: float  # what is told to whoever finds no room


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """One router."""

    workers: tuple[WorkerSnapshot, ...]  # listed, or coming up, by id
    hits: Mapping[WorkerId, WorkerHits]  # of workers that left, too
    in_flight: Mapping[WorkerId, int]  # of the same
    counters: Mapping[str, int]
    waiting: int
    running: int  # requests that have not ended, those that wait included
    leases: int
    queue: QueueSnapshot
    house: House  # what is in
    house_most: House  # what may be
    retried: int  # running requests that a live worker failed before
    resuming: int  # lost ones that were sent on and have no new token yet
    latencies: Mapping[str, EndLatencies]  # of requests that ended, by outcome


def take_snapshot(state: RouterState) -> RouterSnapshot:
    """O(workers)."""
    listed = {member.spec.worker_id for member in state.members}
    known = sorted(listed | set(state.hits.workers()))
    workers = [_worker(state, member) for member in state.members]
    workers += [_absent(state, one) for one in state.members.absent_unlisted()]
    workers.sort(key=lambda worker: worker.worker_id)
    return RouterSnapshot(
        workers=tuple(workers),
        hits={worker_id: replace(state.hits.of(worker_id)) for worker_id in known},
        in_flight={worker_id: state.loads.n_booked(worker_id) for worker_id in known},
        counters=state.counters.as_dict(),
        waiting=len(state.waiting),
        running=len(state.requests),
        leases=len(state.leases),
        queue=_queue(state),
        house=state.admission.house,
        house_most=state.admission.most,
        retried=len(state.retries),
        resuming=len(state.pace),
        latencies=state.latencies.by_outcome(),
    )


def _queue(state: RouterState) -> QueueSnapshot:
    """O(lanes): tenants that wait, times their bands."""
    waiting = state.waiting
    return QueueSnapshot(
        by_band=tuple(waiting.by_band()),
        by_tenant={name: one.n_waiting for name, one in waiting.tenants.waiting.items()},
        by_policy=dict(waiting.policies),
        lost=waiting.n_lost,
        tokens=waiting.n_tokens,
        retry_after_ms=state.usual_wait.ms,
    )


def _worker(state: RouterState, member: Member) -> WorkerSnapshot:
    worker_id = member.spec.worker_id
    return WorkerSnapshot(
        worker_id=worker_id,
        address=member.spec.address,
        state=member.state.value,
        epoch=member.epoch,
        reason=member.reason,
        is_fresh=member.is_believed,
        is_resting=member.ejected_until_ns > 0,
        deaths=state.members.deaths_of(worker_id),
        step_age_ms=member.step_age_ms,
        in_flight=state.loads.n_booked(worker_id),
        queued_tokens=state.loads.load(worker_id).queued_tokens,
        kv_blocks_total=member.kv_blocks_total,
        kv_blocks_used=member.kv_blocks_used,
        max_batched_tokens=member.max_batched_tokens,
        max_num_seqs=member.max_num_seqs,
        compat=member.compat,
        metrics_address=member.metrics_address,
        adapters=member.adapters or frozenset(),
        idle=replace(state.idle.of(worker_id)),
        audit=state.audit.of(worker_id),
    )


def _absent(state: RouterState, absent: AbsentWorker) -> WorkerSnapshot:
    worker_id = absent.worker_id
    return WorkerSnapshot(
        worker_id=worker_id,
        address="",
        state=absent.why.value,
        epoch="",
        reason=absent.reason,
        is_fresh=False,
        is_resting=False,
        deaths=state.members.deaths_of(worker_id),
        step_age_ms=0.0,
        in_flight=state.loads.n_booked(worker_id),
        queued_tokens=0,
        kv_blocks_total=0,
        kv_blocks_used=0,
        max_batched_tokens=0,
        max_num_seqs=0,
        compat=None,
        metrics_address="",
        adapters=state.members.adapters_of(worker_id) or frozenset(),
        idle=WorkerIdle(),
        audit=AuditRecord(),
    )
