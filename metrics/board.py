"""Board: a Grafana dashboard made of tables of metrics, so that none is without a panel.

Pure: tables in, the JSON's values out. A counter is shown as its rate, a histogram as quantiles, a
gauge as it is. What somebody looks at first is put together by hand (`Panel`); every other metric
has a panel of its own in its table's row, which is folded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from radixroute.metrics.metric import Kind, Metric, Unit

COLUMNS: Final = 24  # of Grafana's grid
WIDTH: Final = 8  # of a panel
HEIGHT: Final = 7
QUANTILES: Final = (0.5, 0.9, 0.99)
SCHEMA: Final = 39  # of Grafana 10 and 11, which newer ones read
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_UNITS: Final = {
    Unit.NONE: "short",
    Unit.SECONDS: "s",
    Unit.BYTES: "bytes",
    Unit.TOKENS: "short",
    Unit.BLOCKS: "short",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or several, in PromQL; `legend` names each by its labels."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `unit`: as Grafana calls it."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    help: str = ""
    is_stacked: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A row of panels, folded unless it is to be seen first."""

    title: str
    panels: tuple[Panel, ...]
    is_open: bool = field(default=False, kw_only=True)


def rate(metric: str, by: Sequence[str] = ()) -> str:
    """A counter's, over time."""
    return _summed(f"rate({metric}[$__rate_interval])", by)


def quantile(q: float, histogram: str, by: Sequence[str] = ()) -> str:
    """Of a histogram's values of late."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', ('le', *by))})"


def quantiles(histogram: str) -> tuple[Query, ...]:
    return tuple(Query(quantile(q, histogram), f"p{100 * q:g}") for q in QUANTILES)


def panel_of(metric: Metric[Any]) -> Panel:
    """What there is to see of one metric."""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    match metric.kind:
        case Kind.HISTOGRAM:
            queries = quantiles(metric.name)
        case Kind.COUNTER:
            queries = (Query(rate(metric.name, metric.labels), legend),)
        case _:
            queries = (Query(_summed(metric.name, metric.labels), legend),)
    return Panel(metric.name, queries, _UNITS[metric.unit], metric.help)


def board(title: str, uid: str, sections: Iterable[Section]) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["radixroute"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource",
                 "query": "prometheus"}
            ]
        },
        "panels": list(_rows(sections)),
    }  # fmt: skip


def _summed(expression: str, by: Sequence[str]) -> str:
    """Over all that has the same labels: several processes may have the same metric."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def _rows(sections: Iterable[Section]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for section in sections:
        number += 1
        row = {
            "id": number,
            "type": "row",
            "title": section.title,
            "collapsed": not section.is_open,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "panels": list[dict[str, Any]](),
        }
        y += 1
        panels = []
        for place, panel in enumerate(section.panels):
            number += 1
            line, column = divmod(place, COLUMNS // WIDTH)
            at = {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": y + line * HEIGHT}
            panels.append(_chart(number, panel, at))
        if section.is_open:
            yield row
            yield from panels
            y += HEIGHT * -(-len(panels) // (COLUMNS // WIDTH))
        else:
            yield row | {"panels": panels}


def _chart(number: int, panel: Panel, at: dict[str, int]) -> dict[str, Any]:
    stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
    custom = {"fillOpacity": 30 if panel.is_stacked else 8, "lineWidth": 1, "stacking": stacking}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
            }
            for place, query in enumerate(panel.queries)
        ],
    }
