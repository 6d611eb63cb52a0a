"""Inspect: the router's state as the wire's messages. Pure readers; changes nothing."""

from collections.abc import Iterator

from radixroute import __version__
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.router.core.decision_log import Decision, LoggedRequest
from radixroute.router.core.request_log import EndedRequest
from radixroute.router.runtime import RouterRuntime
from radixroute.router.workers.members import Member


def list_workers(runtime: RouterRuntime) -> pb.ListWorkersResponse:
    members = runtime.core.state.members
    return pb.ListWorkersResponse(workers=[_worker_status(runtime, m) for m in members])


def hit_rates(runtime: RouterRuntime) -> pb.HitRatesResponse:
    state = runtime.core.state
    listed = {member.spec.worker_id for member in state.members}
    workers = [_worker_hits(runtime, w) for w in sorted(listed | set(state.hits.workers()))]
    total = pb.WorkerHits(worker_id="")
    for hits in workers:
        for name in _SUMMED:
            setattr(total, name, getattr(total, name) + getattr(hits, name))
    kv_total = sum(member.kv_blocks_total for member in state.members)
    kv_used = sum(member.kv_blocks_used for member in state.members)
    total.kv_use = kv_used / kv_total if kv_total else 0.0
    return pb.HitRatesResponse(workers=workers, total=total)


def explain(entry: LoggedRequest) -> pb.ExplainResponse:
    return pb.ExplainResponse(
        request_id=entry.request_id,
        policy=entry.policy,
        prompt_tokens=entry.prompt_tokens,
        block_size=entry.block_size,
        attempts=[_attempt(decision) for decision in entry.decisions],
        outcome=entry.outcome,
        cached_tokens=entry.cached_tokens,
    )


def router_info(runtime: RouterRuntime, policy: str) -> pb.RouterInfoResponse:
    fleet = runtime.fleet
    return pb.RouterInfoResponse(
        api_version=API_VERSION,
        version=__version__,
        model=fleet.model if fleet is not None else "",
        policy=policy,
        block_size=fleet.block_size if fleet is not None else 0,
        scope_fingerprint=fleet.scope_fingerprint if fleet is not None else "",
        counters=runtime.core.state.counters.as_dict(),
        max_model_len=fleet.max_model_len if fleet is not None else 0,
        vocab_size=fleet.vocab_size if fleet is not None else 0,
    )


def request_log(runtime: RouterRuntime, log_id: str, after: int) -> pb.RequestLogResponse:
    state = runtime.core.state
    return pb.RequestLogResponse(
        log_id=log_id,
        oldest=state.ended.oldest,
        latest=state.ended.latest,
        running=len(state.requests),
        requests=[_ended(entry) for entry in state.ended.after(after, PAGE_BYTES)],
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


def _worker_status(runtime: RouterRuntime, member: Member) -> pb.WorkerStatus:
    worker_id = member.spec.worker_id
    load = runtime.core.state.loads.load(worker_id)
    idle = runtime.core.state.idle.of(worker_id)
    status = pb.WorkerStatus(
        worker_id=worker_id,
        address=member.spec.address,
        state=member.state.value,
        epoch=member.epoch,
        in_flight=runtime.core.state.loads.n_booked(worker_id),
        queued_tokens=load.queued_tokens,
        kv_blocks_total=member.kv_blocks_total,
        kv_blocks_used=member.kv_blocks_used,
        step_age_ms=member.step_age_ms,
        deaths=member.deaths,
        reason=member.reason,
        idle_planned_ms=idle.planned_ns / 1e6,
        idle_avoidable_ms=idle.avoidable_ns / 1e6,
        idle_starting_ms=idle.starting_ns / 1e6,
        max_num_seqs=member.max_num_seqs,
        max_num_batched_tokens=member.max_batched_tokens,
    )
    if member.compat is not None:
        status.compat_events_endpoint = member.compat.events
        status.compat_replay_endpoint = member.compat.control
    stream = runtime.events.status(worker_id)
    if stream is not None:
        status.stream_state = stream.state
        status.applied_seq = stream.applied_seq
        status.indexed_blocks = stream.indexed_blocks
        status.rejected_batches = stream.rejected_batches
    return status


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
    )


def _worker_hits(runtime: RouterRuntime, worker_id: str) -> pb.WorkerHits:
    state = runtime.core.state
    member = state.members.get(WorkerId(worker_id))
    hits = state.hits.of(WorkerId(worker_id))
    total = member.kv_blocks_total if member is not None else 0
    used = member.kv_blocks_used if member is not None else 0
    return pb.WorkerHits(
        worker_id=worker_id,
        requests=hits.requests,
        prompt_tokens=hits.prompt_tokens,
        cached_tokens=hits.cached_tokens,
        predicted_tokens=hits.predicted_tokens,
        in_flight=state.loads.n_booked(WorkerId(worker_id)),
        kv_use=used / total if total else 0.0,
        resumed_requests=hits.resumed_requests,
        recomputed_tokens=hits.recomputed_tokens,
    )


def _attempt(decision: Decision) -> pb.AttemptDecision:
    excluded = [
        pb.CandidateTerms(worker_id=e.worker_id, eligible=False, excluded_because=e.because)
        for e in decision.excluded
    ]
    return pb.AttemptDecision(
        attempt=decision.attempt,
        chosen=decision.worker_id,
        reason=decision.reason,
        candidates=[*_candidates(decision), *excluded],
    )


def _candidates(decision: Decision) -> Iterator[pb.CandidateTerms]:
    """One for each eligible worker: only here do a decision's columns become rows."""
    view, scores = decision.view, decision.scores()
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
