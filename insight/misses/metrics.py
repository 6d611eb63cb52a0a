"""Metrics of misses: why prompt tokens were computed that a cache might have served."""

from collections.abc import Iterable
from typing import Final

from radixroute.insight.misses.reader import MissesSeen
from radixroute.insight.misses.sums import LIVE_CLASSES, reachable
from radixroute.metrics.metric import Kind, Metric, Sample, Unit, by_label, one


def _missed(seen: MissesSeen) -> Iterable[Sample]:
    return (
        Sample(int(tokens[column]), (worker, name))
        for worker, tokens in sorted(seen.totals.items())
        for column, name in enumerate(LIVE_CLASSES)
    )


MISS_METRICS: Final[tuple[Metric[MissesSeen], ...]] = (
    Metric(
        "radixroute_missed_tokens_total",
        Kind.COUNTER,
        "Prompt tokens that no cache served, by the worker that computed them and why"
        " (docs/misses.md); preempted ones beside them",
        _missed,
        Unit.TOKENS,
        ("worker", "reason"),
    ),
    Metric(
        "radixroute_reachable_tokens_total",
        Kind.COUNTER,
        "Prompt tokens that one cache without a limit would have served, of those that were"
        " attributed: what a hit rate may be compared with",
        lambda seen: (
            Sample(reachable(tokens), (worker,)) for worker, tokens in sorted(seen.totals.items())
        ),
        Unit.TOKENS,
        ("worker",),
    ),
    by_label(
        "reason",
        "radixroute_unattributed_tokens_total",
        "Prompt tokens of which nobody can say why they were missed, if they were, by why not",
        lambda seen: seen.unattributed.items(),
        Unit.TOKENS,
    ),
    Metric(
        "radixroute_misses_known_blocks",
        Kind.GAUGE,
        "Blocks that attribution knows: held, about to be computed, or seen lately",
        lambda seen: one(seen.n_blocks),
        Unit.BLOCKS,
    ),
    Metric(
        "radixroute_misses_bytes",
        Kind.GAUGE,
        "Memory of what attribution knows",
        lambda seen: one(seen.n_bytes),
        Unit.BYTES,
    ),
    Metric(
        "radixroute_misses_forgotten_blocks_total",
        Kind.COUNTER,
        "Blocks that attribution forgot for want of memory: what was evicted everywhere may count"
        " as never seen",
        lambda seen: one(seen.n_forgotten),
        Unit.BLOCKS,
    ),
    Metric(
        "radixroute_misses_unplaced_blocks_total",
        Kind.COUNTER,
        "Blocks that attribution had no room for, since caches hold more than it may know",
        lambda seen: one(seen.n_without_room),
        Unit.BLOCKS,
    ),
)
