"""The worker's metrics: all that its page shows, in one table, and the record it is read from.

`radixroute_engine_*` is what this process knows of itself; what a router thinks of a worker is
`radixroute_worker_*` on the router's page. docs/metrics.md is made of this table.
"""

from collections.abc import Callable
from dataclasses import dataclass

from radixroute import __version__
from radixroute.events.publish.outbound import OutboundCounters
from radixroute.events.publish.publisher import PublisherCounters
from radixroute.metrics.distribution import Spread
from radixroute.metrics.metric import Kind, Metric, Sample, Unit, by_label, one
from radixroute.metrics.own import loop_lag_metric
from radixroute.worker.engine.engine import EngineInfo


@dataclass(frozen=True, slots=True)
class WorkerSight:
    """One moment of a worker."""

    worker_id: str
    info: EngineInfo
    steps: Spread  # seconds
    prefill_tokens: int
    decode_tokens: int
    queued_tokens: int
    kv_blocks_used: int
    in_flight: int
    sessions: int
    refused: int
    told_over: int
    unread_sessions: int
    unproven: int
    batches: OutboundCounters
    publisher: PublisherCounters
    loop_lag: Spread  # seconds


def _gauge(
    name: str, meaning: str, read: Callable[[WorkerSight], float], unit: Unit = Unit.NONE
) -> Metric[WorkerSight]:
    return Metric(name, Kind.GAUGE, meaning, lambda seen: one(read(seen)), unit)


def _counter(name: str, meaning: str, read: Callable[[WorkerSight], float]) -> Metric[WorkerSight]:
    return Metric(name, Kind.COUNTER, meaning, lambda seen: one(read(seen)))


WORKER_METRICS: tuple[Metric[WorkerSight], ...] = (
    Metric(
        "radixroute_engine",
        Kind.GAUGE,
        "1, with the worker's version, id, served model, device and dtype",
        lambda seen: (
            Sample(
                1,
                (__version__, seen.worker_id, seen.info.model, seen.info.device, seen.info.dtype),
            ),
        ),
        labels=("version", "worker", "model", "device", "dtype"),
    ),
    loop_lag_metric(lambda seen: seen.loop_lag),
    Metric(
        "radixroute_engine_step_seconds",
        Kind.HISTOGRAM,
        "Time of each step of the engine",
        lambda seen: (Sample(seen.steps),),
        Unit.SECONDS,
    ),
    by_label(
        "kind",
        "radixroute_engine_tokens_total",
        "Tokens computed: of prompts, and one for each request that decodes",
        lambda seen: (("prefill", seen.prefill_tokens), ("decode", seen.decode_tokens)),
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_engine_requests", "Requests that callers wait for", lambda seen: seen.in_flight
    ),
    _gauge(
        "radixroute_engine_max_requests",
        "Requests that run at once at most",
        lambda seen: seen.info.max_num_seqs,
    ),
    _gauge(
        "radixroute_engine_queued_tokens",
        "Prompt tokens to be computed, after the last step",
        lambda seen: seen.queued_tokens,
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_engine_max_step_tokens",
        "Tokens of one step at most",
        lambda seen: seen.info.max_num_batched_tokens,
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_engine_kv_blocks",
        "Blocks of the KV pool",
        lambda seen: seen.info.kv_blocks_total,
        Unit.BLOCKS,
    ),
    _gauge(
        "radixroute_engine_kv_used_blocks",
        "Blocks in use or cached, after the last step",
        lambda seen: seen.kv_blocks_used,
        Unit.BLOCKS,
    ),
    _gauge(
        "radixroute_engine_sessions",
        "Open sessions of routers and direct clients",
        lambda seen: seen.sessions,
    ),
    _counter(
        "radixroute_engine_requests_refused_total",
        "Requests the engine would not take",
        lambda seen: seen.refused,
    ),
    _counter(
        "radixroute_engine_sessions_told_over_total",
        "Requests taken that are the last of their client's session, as it says",
        lambda seen: seen.told_over,
    ),
    _counter(
        "radixroute_engine_connections_unproven_total",
        "Connections for sessions and events refused: no TLS, or no certificate of a router",
        lambda seen: seen.unproven,
    ),
    _counter(
        "radixroute_engine_sessions_unread_total",
        "Sessions closed because their caller read nothing for too long",
        lambda seen: seen.unread_sessions,
    ),
    by_label(
        "outcome",
        "radixroute_engine_event_batches_total",
        "Batches of cache events: sent, or dropped, which routers see as gaps",
        lambda seen: (("sent", seen.batches.sent), ("dropped", seen.batches.dropped)),
    ),
    _counter(
        "radixroute_engine_event_batches_too_big_total",
        "Of those dropped, batches that were too big",
        lambda seen: seen.batches.too_big,
    ),
    _counter(
        "radixroute_engine_event_batches_late_total",
        "Batches of cache events that came when nobody sent any more",
        lambda seen: seen.publisher.after_stop,
    ),
    by_label(
        "reason",
        "radixroute_engine_event_requests_refused_total",
        "Requests for a resend or a snapshot that were refused: they make no sense, or transfers"
        " enough run",
        lambda seen: (
            ("malformed", seen.publisher.malformed_requests),
            ("busy", seen.publisher.refused_requests),
        ),
    ),
    _counter(
        "radixroute_engine_event_transfers_failed_total",
        "Resends and snapshots whose peer went away or took nothing for too long",
        lambda seen: seen.publisher.failed_transfers,
    ),
)
