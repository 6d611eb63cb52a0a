"""The fleet as metrics: each worker's state, load, cache, idling and event stream.

A worker's label is the id its controller gave it: as many as there are seats, not as many as there
were lives. Those that left show what the past keeps of them: hits.
"""

from collections.abc import Callable, Iterable
from functools import partial

from radixroute.events.session.states import StreamState
from radixroute.metrics.metric import Kind, Metric, Sample, Unit
from radixroute.router.api.metrics.sight import RouterSight
from radixroute.router.core.hits import WorkerHits
from radixroute.router.core.snapshot import WorkerSnapshot
from radixroute.router.links.event_link import StreamStatus
from radixroute.router.messages.inputs import Absence
from radixroute.router.workers.members import MemberState

WORKER_STATES = (*(s.value for s in MemberState), *(a.value for a in Absence))
STREAM_STATES = tuple(state.value for state in StreamState)
Read = Callable[[RouterSight], Iterable[Sample]]


def _of_workers(read: Callable[[WorkerSnapshot], float]) -> Read:
    return lambda seen: (Sample(read(one), (one.worker_id,)) for one in seen.core.workers)


def _of_hits(read: Callable[[WorkerHits], float]) -> Read:
    return lambda seen: (Sample(read(h), (worker_id,)) for worker_id, h in seen.core.hits.items())


def _of_streams(read: Callable[[StreamStatus], float]) -> Read:
    return lambda seen: (Sample(read(s), (worker_id,)) for worker_id, s in seen.streams.items())


def _states(seen: RouterSight) -> Iterable[Sample]:
    for worker in seen.core.workers:
        for state in WORKER_STATES:
            yield Sample(worker.state == state, (worker.worker_id, state))


def _stream_states(seen: RouterSight) -> Iterable[Sample]:
    for worker_id, stream in seen.streams.items():
        for state in STREAM_STATES:
            yield Sample(stream.state == state, (worker_id, state))


def _idle(seen: RouterSight) -> Iterable[Sample]:
    for one in seen.core.workers:
        yield Sample(one.idle.planned_ns / 1e9, (one.worker_id, "planned"))
        yield Sample(one.idle.avoidable_ns / 1e9, (one.worker_id, "avoidable"))
        yield Sample(one.idle.starting_ns / 1e9, (one.worker_id, "starting"))


def _metric(
    kind: Kind, name: str, meaning: str, read: Read, unit: Unit = Unit.NONE, label: str = ""
) -> Metric[RouterSight]:
    return Metric(name, kind, meaning, read, unit, ("worker", label) if label else ("worker",))


_gauge, _counter = partial(_metric, Kind.GAUGE), partial(_metric, Kind.COUNTER)

FLEET_METRICS: tuple[Metric[RouterSight], ...] = (
    _gauge(
        "radixroute_worker_state",
        "1 for the state it is in, 0 for the others",
        _states,
        label="state",
    ),
    _gauge(
        "radixroute_worker_resting",
        "1 while it is left alone because it failed what it was given",
        _of_workers(lambda one: one.is_resting),
    ),
    _gauge(
        "radixroute_worker_cache_believed",
        "1 while its event stream is applied up to date and its reports agree with it",
        _of_workers(lambda one: one.is_fresh),
    ),
    _gauge(
        "radixroute_worker_audit_drifted",
        "1 while its reports of cached tokens differ from its events: its cache counts for nothing",
        _of_workers(lambda one: not one.audit.has_credit),
    ),
    _counter(
        "radixroute_worker_audit_differences_total",
        "Reports of cached tokens that differed from its events",
        _of_workers(lambda one: one.audit.differing),
    ),
    _counter(
        "radixroute_worker_deaths_total",
        "Times it died, as seen here or by its controller",
        _of_workers(lambda o: o.deaths),
    ),
    _gauge(
        "radixroute_worker_in_flight_requests",
        "Requests and leases of this router on it",
        _of_workers(lambda one: one.in_flight),
    ),
    _gauge(
        "radixroute_worker_queued_tokens",
        "Prompt tokens it has to compute, as booked here",
        _of_workers(lambda one: one.queued_tokens),
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_worker_kv_blocks",
        "Blocks of its KV pool",
        _of_workers(lambda one: one.kv_blocks_total),
        Unit.BLOCKS,
    ),
    _gauge(
        "radixroute_worker_kv_used_blocks",
        "Blocks in use or cached, as last reported",
        _of_workers(lambda one: one.kv_blocks_used),
        Unit.BLOCKS,
    ),
    _gauge(
        "radixroute_worker_step_age_seconds",
        "Time since its last engine step while it has work, as last reported",
        _of_workers(lambda one: one.step_age_ms / 1e3),
        Unit.SECONDS,
    ),
    _counter(
        "radixroute_worker_idle_seconds_total",
        "Time with nothing to run while requests waited here: as planned, avoidable, or with one on"
        " its way to it",
        _idle,
        Unit.SECONDS,
        label="kind",
    ),
    _counter(
        "radixroute_worker_requests_total",
        "Requests whose prompt it reported",
        _of_hits(lambda hits: hits.requests),
    ),
    _counter(
        "radixroute_worker_prompt_tokens_total",
        "Prompt tokens of those requests",
        _of_hits(lambda hits: hits.prompt_tokens),
        Unit.TOKENS,
    ),
    _counter(
        "radixroute_worker_cached_tokens_total",
        "Of these, tokens its cache held",
        _of_hits(lambda hits: hits.cached_tokens),
        Unit.TOKENS,
    ),
    _counter(
        "radixroute_worker_predicted_tokens_total",
        "Of these, tokens the router thought it held",
        _of_hits(lambda hits: hits.predicted_tokens),
        Unit.TOKENS,
    ),
    _counter(
        "radixroute_worker_resumed_requests_total",
        "Requests it went on with after another worker was lost",
        _of_hits(lambda hits: hits.resumed_requests),
    ),
    _counter(
        "radixroute_worker_recomputed_tokens_total",
        "Tokens it computed that had been computed before",
        _of_hits(lambda hits: hits.recomputed_tokens),
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_worker_stream_state",
        "1 for the state its event stream is in, 0 for the others",
        _stream_states,
        label="state",
    ),
    _gauge(
        "radixroute_worker_indexed_blocks",
        "Blocks the index holds of it",
        _of_streams(lambda stream: stream.indexed_blocks),
        Unit.BLOCKS,
    ),
    _counter(
        "radixroute_worker_stream_gaps_total",
        "Times its event stream missed a batch, healed or not, in this life of it",
        _of_streams(lambda stream: stream.gaps),
    ),
    _counter(
        "radixroute_worker_stream_rejected_batches_total",
        "Batches of its event stream that were refused, in this life of it",
        _of_streams(lambda stream: stream.rejected_batches),
    ),
)
