"""Inspect: the router's state as the wire's messages. Pure readers; changes nothing."""

from collections.abc import Callable, Iterator, Sequence

from radixroute import __version__
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.router.core.logs.decision_log import LoggedRequest
from radixroute.router.core.logs.request_log import EndedRequest
from radixroute.router.core.snapshot import RouterSnapshot, WorkerSnapshot
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.reasons import reason_of
from radixroute.router.policy.view import Scores
from radixroute.router.runtime import RouterRuntime
from radixroute.router.workers.claims import AuditRecord


def list_workers(runtime: RouterRuntime) -> pb.ListWorkersResponse:
    workers = runtime.core.snapshot().workers
    return pb.ListWorkersResponse(workers=[_worker_status(runtime, worker) for worker in workers])


def hit_rates(runtime: RouterRuntime) -> pb.HitRatesResponse:
    seen = runtime.core.snapshot()
    listed = {worker.worker_id: worker for worker in seen.workers}
    workers = [_worker_hits(seen, worker_id, listed.get(worker_id)) for worker_id in seen.hits]
    total = pb.WorkerHits(worker_id="")
    for hits in workers:
        for name in _SUMMED:
            setattr(total, name, getattr(total, name) + getattr(hits, name))
    kv_total = sum(worker.kv_blocks_total for worker in seen.workers)
    kv_used = sum(worker.kv_blocks_used for worker in seen.workers)
    total.kv_use = kv_used / kv_total if kv_total else 0.0
    return pb.HitRatesResponse(workers=workers, total=total)


def explain(
    entry: LoggedRequest, scores: Callable[[Decision], Scores], believed: Sequence[WorkerId] = ()
) -> pb.ExplainResponse:
    """`scores`: of a decision, as they were. `believed`: whose caches nobody told of."""
    return pb.ExplainResponse(
        request_id=entry.request_id,
        policy=entry.policy,
        prompt_tokens=entry.prompt_tokens,
        block_size=entry.block_size,
        attempts=[_attempt(decision, scores(decision)) for decision in entry.decisions],
        outcome=entry.outcome,
        cached_tokens=entry.cached_tokens,
        believed=believed,
    )


def router_info(
    runtime: RouterRuntime, metrics_address: str, http_address: str
) -> pb.RouterInfoResponse:
    served = runtime.handshake.served
    fleet = served.facts if served is not None else None
    return pb.RouterInfoResponse(
        api_version=API_VERSION,
        version=__version__,
        model=fleet.model if fleet is not None else "",
        policy=runtime.core.trials.usual,
        block_size=fleet.block_size if fleet is not None else 0,
        scope_fingerprint=fleet.scope_fingerprint if fleet is not None else "",
        counters=runtime.core.snapshot().counters,
        max_model_len=fleet.max_model_len if fleet is not None else 0,
        vocab_size=fleet.vocab_size if fleet is not None else 0,
        metrics_address=metrics_address,
        http_address=http_address,
    )


def request_log(runtime: RouterRuntime, log_id: str, after: int) -> pb.RequestLogResponse:
    page = runtime.core.ended(after, PAGE_BYTES)
    return pb.RequestLogResponse(
        log_id=log_id,
        oldest=page.oldest,
        latest=page.latest,
        running=runtime.core.n_running,
        requests=[_ended(entry) for entry in page.entries],
    )


# Of one answer about ended requests: well below what a message may have.
PAGE_BYTES = 1 << 20

_SUMMED = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "predicted_tokens",
    "in_flight",
    "resumed_requests",
    "recomputed_tokens",
)


def _worker_status(runtime: RouterRuntime, worker: WorkerSnapshot) -> pb.WorkerStatus:
    status = pb.WorkerStatus(
        worker_id=worker.worker_id,
        address=worker.address,
        state=worker.state,
        epoch=worker.epoch,
        in_flight=worker.in_flight,
        queued_tokens=worker.queued_tokens,
        kv_blocks_total=worker.kv_blocks_total,
        kv_blocks_used=worker.kv_blocks_used,
        step_age_ms=worker.step_age_ms,
        deaths=worker.deaths,
        reason=worker.reason,
        idle_planned_ms=worker.idle.planned_ns / 1e6,
        idle_avoidable_ms=worker.idle.avoidable_ns / 1e6,
        idle_starting_ms=worker.idle.starting_ns / 1e6,
        max_num_seqs=worker.max_num_seqs,
        max_num_batched_tokens=worker.max_batched_tokens,
        metrics_address=worker.metrics_address,
        audit=_audit(worker.audit),
        audit_judged=worker.audit.judged,
        audit_differing=worker.audit.differing,
        audit_unjudged=worker.audit.unjudged,
        audit_reason=worker.audit.reason,
        adapters=sorted(worker.adapters),
    )
    if worker.compat is not None:
        status.compat_events_endpoint = worker.compat.events
        status.compat_replay_endpoint = worker.compat.control
    stream = runtime.events.status(worker.worker_id)
    if stream is not None:
        status.stream_state = stream.state
        status.applied_seq = stream.applied_seq
        status.indexed_blocks = stream.indexed_blocks
        status.rejected_batches = stream.rejected_batches
    return status


def _audit(record: AuditRecord) -> str:
    """Empty: nothing was compared yet."""
    if not record.has_credit:
        return "drifted"
    if record.is_believed:
        return "believed"
    return "agrees" if record.judged else ""


def _ended(entry: EndedRequest) -> pb.EndedRequest:
    return pb.EndedRequest(
        number=entry.number,
        request_id=entry.request_id,
        policy=entry.policy,
        worker_id=entry.worker_id or "",
        outcome=entry.outcome,
        block_size=entry.block_size,
        arrival_ns=entry.arrival_ns,
        dispatched_ns=entry.dispatched_ns,
        first_token_ns=entry.first_token_ns,
        prompt_tokens=entry.prompt_tokens,
        output_tokens=entry.output_tokens,
        cached_tokens=entry.cached_tokens,
        predicted_tokens=entry.predicted_tokens,
        keys=entry.keys.astype("<u8", copy=False).tobytes(),
        marks=entry.marks,
        lora=entry.lora,
        apart=entry.apart,
    )


def _worker_hits(
    seen: RouterSnapshot, worker_id: WorkerId, worker: WorkerSnapshot | None
) -> pb.WorkerHits:
    hits = seen.hits[worker_id]
    total = worker.kv_blocks_total if worker is not None else 0
    used = worker.kv_blocks_used if worker is not None else 0
    return pb.WorkerHits(
        worker_id=worker_id,
        requests=hits.requests,
        prompt_tokens=hits.prompt_tokens,
        cached_tokens=hits.cached_tokens,
        predicted_tokens=hits.predicted_tokens,
        in_flight=seen.in_flight[worker_id],
        kv_use=used / total if total else 0.0,
        resumed_requests=hits.resumed_requests,
        recomputed_tokens=hits.recomputed_tokens,
    )


def _attempt(decision: Decision, scores: Scores) -> pb.AttemptDecision:
    excluded = [
        pb.CandidateTerms(worker_id=e.worker_id, eligible=False, excluded_because=e.because)
        for e in decision.view.excluded
    ]
    return pb.AttemptDecision(
        attempt=decision.attempt,
        chosen=decision.worker_id,
        reason=reason_of(decision, scores),
        candidates=[*_candidates(decision, scores), *excluded],
    )


def _candidates(decision: Decision, scores: Scores) -> Iterator[pb.CandidateTerms]:
    """One for each eligible worker: only here do a decision's columns become rows."""
    view = decision.view
    totals = scores.totals
    for position, worker_id in enumerate(view.worker_ids):
        values = scores.terms[:, position].tolist()
        triples = zip(scores.names, values, scores.units, strict=True)
        yield pb.CandidateTerms(
            worker_id=worker_id,
            eligible=True,
            overlap_blocks=int(view.overlap_blocks[position]),
            expected_blocks=int(view.expected_blocks[position]),
            in_flight=int(view.in_flight[position]),
            terms=[pb.Term(name=name, value=value, unit=unit) for name, value, unit in triples],
            score=float(totals[position]),
        )
