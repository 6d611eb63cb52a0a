"""Charts: what each shows, as records, and all of a page as one JSON text for its script.

Pure, and knows no replays. The script (`page.js`) hands the records to the plotting library; it
adds colours, sizes and what follows a pointer, and computes nothing.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from radixroute.replay.report.text import printable


class Kind(Enum):
    """How a chart is drawn."""

    BARS = "bars"  # one lying bar a label, made of the series end to end
    LINES = "lines"
    COLUMNS = "columns"  # one upright bar a label


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis. None: as far as the values go."""

    label: str = ""
    unit: str = ""  # of the numbers that follow a pointer
    low: float | None = None
    high: float | None = None
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One curve, or one part of every bar. `xs` is empty for bars."""

    name: str
    ys: Sequence[float]
    xs: Sequence[float] = ()
    color: str = "k0"  # of the style sheet
    is_dashed: bool = False
    is_bold: bool = False
    is_hidden: bool = False  # until its key is pressed
    fills_to: int | None = None  # the area to the series of this place; no line of its own


@dataclass(frozen=True, slots=True)
class Chart:
    """One canvas of the page."""

    name: str  # in the page, once
    title: str  # for who cannot see it
    kind: Kind
    x: Axis
    y: Axis
    series: Sequence[Series]
    labels: Sequence[str] = ()  # of bars
    ends: Sequence[str] = ()  # what stands at the end of each bar
    is_small: bool = False  # one of many: few numbers on its axes
    group: str = ""  # charts of a group zoom together


def charts_json(charts: Iterable[Chart]) -> str:
    """To stand inside a script element: without the one sign that could end it."""
    records = [_record(chart) for chart in charts]
    return json.dumps(records, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _record(chart: Chart) -> dict[str, object]:
    return {
        "name": chart.name,
        "kind": chart.kind.value,
        "x": _axis(chart.x),
        "y": _axis(chart.y),
        "labels": [printable(one) for one in chart.labels],
        "ends": [printable(one) for one in chart.ends],
        "small": chart.is_small,
        "group": chart.group,
        "series": [_series(one) for one in chart.series],
    }


def _axis(axis: Axis) -> dict[str, object]:
    return {
        "label": printable(axis.label),
        "unit": printable(axis.unit),
        "low": axis.low,
        "high": axis.high,
        "log": axis.is_log,
    }


def _series(one: Series) -> dict[str, object]:
    return {
        "name": printable(one.name),
        "xs": [_short(x) for x in one.xs],
        "ys": [_short(y) for y in one.ys],
        "color": one.color,
        "dashed": one.is_dashed,
        "bold": one.is_bold,
        "hidden": one.is_hidden,
        "fillsTo": one.fills_to,
    }


def _short(value: float) -> float | int:
    """Five digits are finer than any screen. Raises `ValueError` for what is no number."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be drawn")
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded.is_integer() else rounded
