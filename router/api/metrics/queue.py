"""The queue and the house as metrics: who waits, what is in, how long what ended had taken."""

from collections.abc import Callable, Iterable, Mapping

from radixroute.metrics.distribution import Spread
from radixroute.metrics.metric import Kind, Metric, Sample, Unit, one
from radixroute.router.api.metrics.sight import MAX_TENANTS, RouterSight
from radixroute.router.core.latencies import EndLatencies


def _gauge(
    name: str, meaning: str, read: Callable[[RouterSight], float], unit: Unit = Unit.NONE
) -> Metric[RouterSight]:
    return Metric(name, Kind.GAUGE, meaning, lambda seen: one(read(seen)), unit=unit)


def _gauge_by(
    label: str, name: str, meaning: str, read: Callable[[RouterSight], Mapping[str, int]]
) -> Metric[RouterSight]:
    def samples(seen: RouterSight) -> Iterable[Sample]:
        return (Sample(value, (key,)) for key, value in read(seen).items())

    return Metric(name, Kind.GAUGE, meaning, samples, labels=(label,))


def _latency(
    name: str, meaning: str, read: Callable[[EndLatencies], Spread]
) -> Metric[RouterSight]:
    def samples(seen: RouterSight) -> Iterable[Sample]:
        return (Sample(read(of), (outcome,)) for outcome, of in seen.core.latencies.items())

    return Metric(
        name,
        Kind.HISTOGRAM,
        meaning,
        samples,
        unit=Unit.SECONDS,
        labels=("outcome",),
    )


QUEUE_METRICS: tuple[Metric[RouterSight], ...] = (
    _gauge_by(
        "priority",
        "radixroute_queue_requests",
        "Requests that wait for a worker, by the priority they came with",
        lambda seen: {str(band): n for band, n in enumerate(seen.core.queue.by_band)},
    ),
    _gauge_by(
        "tenant",
        "radixroute_queue_tenant_requests",
        "Requests that wait and have lost no worker, by tenant: the first"
        f" {MAX_TENANTS} that were ever seen to wait here, and `other`",
        lambda seen: seen.tenants,
    ),
    _gauge_by(
        "policy",
        "radixroute_queue_policy_requests",
        "Requests that wait for a worker, by the policy that places them",
        lambda seen: seen.core.queue.by_policy,
    ),
    _gauge(
        "radixroute_queue_lost_requests",
        "Requests that wait because they lost a worker or it gave them back",
        lambda seen: seen.core.queue.lost,
    ),
    _gauge(
        "radixroute_queue_prompt_tokens",
        "Tokens of the prompts that wait",
        lambda seen: seen.core.queue.tokens,
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_queue_retry_after_seconds",
        "What is told to whoever finds no room: how long requests waited lately",
        lambda seen: seen.core.queue.retry_after_ms / 1e3,
        Unit.SECONDS,
    ),
    _gauge(
        "radixroute_requests_open",
        "Requests accepted and not ended, those that wait included",
        lambda seen: seen.core.running,
    ),
    _gauge(
        "radixroute_requests_retrying",
        "Requests on a further attempt because a live worker failed them",
        lambda seen: seen.core.retried,
    ),
    _gauge(
        "radixroute_requests_resuming",
        "Requests that lost a worker, were sent on and have no new token yet",
        lambda seen: seen.core.resuming,
    ),
    _gauge("radixroute_leases_open", "Leases that have not ended", lambda seen: seen.core.leases),
    _gauge(
        "radixroute_admission_requests",
        "Requests in the house: being tokenised, waiting, running or leased",
        lambda seen: seen.core.house.requests,
    ),
    _gauge(
        "radixroute_admission_bytes",
        "Bytes of their prompts as they came",
        lambda seen: seen.core.house.n_bytes,
        Unit.BYTES,
    ),
    _gauge(
        "radixroute_admission_tokens",
        "Tokens of their prompts, guessed until they are known",
        lambda seen: seen.core.house.tokens,
        Unit.TOKENS,
    ),
    _gauge(
        "radixroute_admission_max_requests",
        "Requests that may be in the house",
        lambda seen: seen.core.house_most.requests,
    ),
    _gauge(
        "radixroute_admission_max_bytes",
        "Bytes of prompts that may be in the house",
        lambda seen: seen.core.house_most.n_bytes,
        Unit.BYTES,
    ),
    _gauge(
        "radixroute_admission_max_tokens",
        "Tokens of prompts that may be in the house",
        lambda seen: seen.core.house_most.tokens,
        Unit.TOKENS,
    ),
    _latency(
        "radixroute_request_queue_seconds",
        "Arrival to first dispatch, of requests that ended",
        lambda of: of.queue,
    ),
    _latency(
        "radixroute_request_first_token_seconds",
        "Arrival to first token, of requests that ended",
        lambda of: of.first_token,
    ),
    _latency(
        "radixroute_request_output_token_seconds",
        "Time for each token after the first, one mean a request that ended",
        lambda of: of.token,
    ),
    _latency(
        "radixroute_request_seconds", "Arrival to end, of requests that ended", lambda of: of.whole
    ),
)
