"""Metrics that every process has: who asked for the page, and how late its loop is.

The first are the page's own; the second are measured by whoever owns the loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from radixroute.metrics.distribution import Spread
from radixroute.metrics.metric import Kind, Metric, Sample, Unit

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class OwnSight:
    """What a page knows of its scrapes."""

    served: int
    refused: int
    given_up: int


def loop_lag_metric(read: Callable[[S], Spread]) -> Metric[S]:
    """For a room's table."""
    return Metric(
        "radixroute_loop_lag_seconds",
        Kind.HISTOGRAM,
        "How much later than asked the event loop came back, each 0.1 s, or less often while idle",
        lambda seen: (Sample(read(seen)),),
        Unit.SECONDS,
    )


def _scrapes(seen: OwnSight) -> Iterator[Sample]:
    yield Sample(seen.served, ("served",))
    yield Sample(seen.refused, ("refused",))
    yield Sample(seen.given_up, ("given_up",))


OWN_METRICS: tuple[Metric[OwnSight], ...] = (
    Metric(
        "radixroute_scrapes_total",
        Kind.COUNTER,
        "Connections to this port by what became of them: the page was served; refused, for want of"
        " room or because it was no request for the page; given up, because the client was slow or"
        " left",
        _scrapes,
        labels=("outcome",),
    ),
)
