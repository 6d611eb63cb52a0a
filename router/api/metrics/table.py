"""Table: every metric of the router, in the order of the page and of docs/metrics.md."""

from radixroute.metrics.metric import Kind, Metric, Sample, Unit, by_label, one
from radixroute.metrics.own import loop_lag_metric
from radixroute.router.api.metrics.counts import COUNT_METRICS
from radixroute.router.api.metrics.fleet import FLEET_METRICS
from radixroute.router.api.metrics.queue import QUEUE_METRICS
from radixroute.router.api.metrics.sight import RouterSight
from radixroute.router.api.rejections import MOST_FIELDS

_ROUTER: tuple[Metric[RouterSight], ...] = (
    Metric(
        "radixroute_router",
        Kind.GAUGE,
        "1, with the router's version, id and policy",
        lambda seen: (Sample(1, (seen.version, seen.router_id, seen.policy)),),
        labels=("version", "router", "policy"),
    ),
    loop_lag_metric(lambda seen: seen.loop_lag),
    Metric(
        "radixroute_index_bytes",
        Kind.GAUGE,
        "Memory of the prefix index",
        lambda seen: one(seen.index_bytes),
        Unit.BYTES,
    ),
    Metric(
        "radixroute_index_max_bytes",
        Kind.GAUGE,
        "Memory the prefix index may take",
        lambda seen: one(seen.index_max_bytes),
        Unit.BYTES,
    ),
    Metric(
        "radixroute_prompt_memo_bytes",
        Kind.GAUGE,
        "Memory of the memo of tokenised prompts, in the router and its readers of giant prompts",
        lambda seen: one(seen.memo_bytes),
        Unit.BYTES,
    ),
    Metric(
        "radixroute_event_items_unread_total",
        Kind.COUNTER,
        "Items of event streams lost because the router was too slow; their streams see gaps",
        lambda seen: one(seen.dropped_items),
    ),
    by_label(
        "field",
        "radixroute_requests_rejected_fields_total",
        "Requests whose client was told to change them, by the field that is wrong, those left"
        " out that are too long: the first"
        f" {MOST_FIELDS} that were seen, and `other`; `worker`: an engine refused it",
        lambda seen: seen.rejected.items(),
    ),
)

ROUTER_METRICS: tuple[Metric[RouterSight], ...] = (
    *_ROUTER,
    *QUEUE_METRICS,
    *COUNT_METRICS,
    *FLEET_METRICS,
)
