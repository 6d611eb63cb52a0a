"""Metrics of shadows: what each would have made of the same requests."""

import math
from collections.abc import Callable, Iterable
from typing import Final

from radixroute.insight.shadow.comparison import ShadowFigures
from radixroute.insight.shadow.shadows import ShadowsSeen
from radixroute.metrics.metric import Kind, Metric, Sample, Unit, by_label, one


def _figures(
    value: Callable[[ShadowFigures], float | None],
) -> Callable[[ShadowsSeen], Iterable[Sample]]:
    """Of each shadow, where there is one."""

    def samples(seen: ShadowsSeen) -> Iterable[Sample]:
        for figures in seen.figures:
            number = None if figures.is_live else value(figures)
            if number is not None and not math.isnan(number):
                yield Sample(number, (figures.policy,))

    return samples


def _busy(seen: ShadowsSeen) -> Iterable[Sample]:
    shadows = [figures for figures in seen.figures if not figures.is_live]
    return (
        Sample(state.busy_ns / 1e9, (shadows[state.policy].policy,))
        for state in seen.states
        if state.policy < len(shadows)
    )


SHADOW_METRICS: Final[tuple[Metric[ShadowsSeen], ...]] = (
    Metric(
        "radixroute_shadow_requests",
        Kind.GAUGE,
        "Requests of the window that this shadow was asked, too",
        _figures(lambda figures: figures.requests),
        labels=("policy",),
    ),
    Metric(
        "radixroute_shadow_flips",
        Kind.GAUGE,
        "Of these, those that it sent elsewhere than the live router did",
        _figures(lambda figures: figures.flips),
        labels=("policy",),
    ),
    Metric(
        "radixroute_shadow_hit_ratio",
        Kind.GAUGE,
        "Cached prompt tokens / prompt tokens that it would have had",
        _figures(lambda figures: figures.hit_rate),
        labels=("policy",),
    ),
    Metric(
        "radixroute_shadow_first_token_ratio",
        Kind.GAUGE,
        "Mean time to first token, times that of the live policy's own shadow; of that shadow,"
        " times what really happened, which is the error of the method",
        _figures(lambda figures: figures.ttft_times.value),
        labels=("policy",),
    ),
    Metric(
        "radixroute_shadow_first_token_margin_ratio",
        Kind.GAUGE,
        "How far off that may be, 95 %; nothing while too little was seen to say",
        _figures(lambda figures: figures.ttft_times.margin),
        labels=("policy",),
    ),
    Metric(
        "radixroute_shadow_busy_seconds_total",
        Kind.COUNTER,
        "Time of a processor that this shadow took since the shadows began",
        _busy,
        Unit.SECONDS,
        ("policy",),
    ),
    Metric(
        "radixroute_shadow_behind_seconds",
        Kind.GAUGE,
        "How far the shadows are behind the live router: as far as the longest answer takes",
        lambda seen: one(seen.behind_s),
        Unit.SECONDS,
    ),
    Metric(
        "radixroute_shadow_restarts_total",
        Kind.COUNTER,
        "Times the shadows began anew, with empty caches: the fleet changed, or they were lost",
        lambda seen: one(seen.restarts),
    ),
    Metric(
        "radixroute_shadow_batches_lost_total",
        Kind.COUNTER,
        "Times they were too slow for what the router was asked, and began anew",
        lambda seen: one(seen.batches_lost),
    ),
    by_label(
        "reason",
        "radixroute_shadow_requests_left_out_total",
        "Requests that no shadow was asked: without an answer, leased, resumed, of a prompt that"
        " nobody has read, or too many at once",
        lambda seen: seen.counts.left_out.items(),
    ),
    Metric(
        "radixroute_shadow_requests_cut_total",
        Kind.COUNTER,
        "Requests whose answers took longer than shadows wait: thought to be of a usual length",
        lambda seen: one(seen.counts.cut),
    ),
)
