"""Page: tables of metrics as the text that Prometheus reads. Alone knows `prometheus_client`.

A room's part is its table and a way to look: `look` runs in the loop that owns what is looked at
and returns a record that changes no more; everything after that may run in a thread. Each page is
made anew, from a registry that also says what this process uses (`process_*`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client import metrics_core as families
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from radixroute.metrics.distribution import Spread
from radixroute.metrics.metric import Kind, Metric, check_names

S = TypeVar("S")

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text"


@dataclass(frozen=True, slots=True)
class Part(Generic[S]):
    """One table, and how to take what it is read from. `look` is cheap: it runs in the loop."""

    table: Sequence[Metric[S]]
    look: Callable[[], S]

    def take(self) -> Collector:
        return _Taken(self.table, self.look())


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page as it is sent."""

    content_type: str
    body: bytes


class Page:
    """All metrics of one process."""

    def __init__(self, *parts: Part[Any]) -> None:
        """Raises BrokenMetric where two tables share a name."""
        check_names(metric.name for part in parts for metric in part.table)
        self._parts = parts

    def take(self) -> CollectorRegistry:
        """What there is to see now. In the loop that owns it."""
        registry = CollectorRegistry(auto_describe=False)
        for part in self._parts:
            registry.register(part.take())
        ProcessCollector(registry=registry)
        return registry


def render(registry: CollectorRegistry, accept: str) -> Rendered:
    """As OpenMetrics for whoever accepts that, else as Prometheus' older text. In any thread."""
    if OPEN_METRICS in accept:
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return Rendered(openmetrics.CONTENT_TYPE_LATEST, body)
    return Rendered(PLAIN, generate_latest(registry))


class _Taken(Collector):
    """One table with what was seen."""

    def __init__(self, table: Sequence[Metric[S]], seen: S) -> None:
        self._table: Sequence[Metric[Any]] = table
        self._seen = seen

    def describe(self) -> Iterator[families.Metric]:
        """Names only, for the registry: it refuses one that it has."""
        return (_family(metric) for metric in self._table)

    def collect(self) -> Iterator[families.Metric]:
        for metric in self._table:
            family = _family(metric)
            for value, labels in metric.samples(self._seen):
                if isinstance(family, families.HistogramMetricFamily):
                    spread = cast(Spread, value)  # `samples` saw to it
                    family.add_metric(labels, spread.cumulative, spread.total)
                else:
                    family.add_metric(labels, cast(float, value))
            yield family


_Family = families.CounterMetricFamily | families.GaugeMetricFamily | families.HistogramMetricFamily
_FAMILIES: dict[Kind, type[_Family]] = {
    Kind.COUNTER: families.CounterMetricFamily,
    Kind.GAUGE: families.GaugeMetricFamily,
    Kind.HISTOGRAM: families.HistogramMetricFamily,
}


def _family(metric: Metric[Any]) -> _Family:
    return _FAMILIES[metric.kind](
        metric.name, metric.help, labels=metric.labels, unit=metric.unit.value
    )
