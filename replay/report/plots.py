"""The plots of a report's page: which curves and marks show a replay, and over which ranges.

Pure: figures and series in, SVG or HTML text out. Every plot is told which number each run has on
the page, so that one colour and one switch follow a run through all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.report.figures import (
    RunFigures,
    in_flight_over_time,
    share_over_time,
    ttft_distribution,
)
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.report.svg import Frame, Scale, nice_step, series_class
from radixroute.replay.report.text import escape, short

# Enough for the eye, and eight policies stay within a few hundred kilobytes.
TIME_BUCKETS = 60
LOAD_BUCKETS = 80
# Up to here each worker has a line of its own; above, the band from idlest to busiest.
MOST_WORKER_LINES = 16
_WIDTH, _HEIGHT = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 430, 34, 236


@dataclass(frozen=True, slots=True)
class Shown:
    """A run on the page: its name there and the number of its colour."""

    run: ReportedRun
    figures: RunFigures
    name: str
    key: int


def hit_rate_plot(report: Report, shown: Sequence[Shown]) -> str:
    """Share of the prompt tokens arriving in each span that came from cache."""
    curves = [
        (one, *share_over_time(one.run.result, one.run.result.cached_tokens, TIME_BUCKETS))
        for one in shown
    ]
    bounds = [
        (name, *share_over_time(shown[0].run.result, tokens, TIME_BUCKETS))
        for name, tokens in report.bound_tokens.items()
    ]
    level = None if report.bound in report.bound_tokens else _reachable(report, shown)
    tops = [float(ys.max(initial=0)) for _, _, ys in (*curves, *bounds)]
    x, unit = _time_scale([xs for _, xs, _ in curves])
    frame = _frame(x, _up_to(max([*tops, level or 0.0]) * 100))
    frame.axes("{:g}", "{:g}", f"time of arrival, {unit.name}", "% of prompt tokens from cache")
    for name, xs, ys in bounds:
        frame.line(xs / unit.seconds, ys * 100, "bound")
        if len(xs):
            frame.text(
                frame.x.end, max(frame.y(float(ys[-1]) * 100) - 5, 10), short(name, 40), "note end"
            )
    if level is not None:
        frame.rule(level * 100, f"{short(report.bound or 'reachable', 40)}, whole trace")
    for one, xs, ys in curves:
        frame.line(xs / unit.seconds, ys * 100, series_class(one.key), one.key)
    return frame.svg("Hit rate over time for each policy", unit.name)


def ttft_plot(shown: Sequence[Shown]) -> str:
    """Share of the requests answered within a time, on a logarithmic axis."""
    curves = [(one, *ttft_distribution(one.run.result)) for one in shown]
    times = np.concatenate([xs for _, xs, _ in curves])
    frame = _frame(_log_scale(times), Scale(0, 100, _BOTTOM, _TOP))
    frame.axes("{:,g}", "{:g}", "time to first token, ms (logarithmic)", "% of requests answered")
    for one, xs, ys in curves:
        frame.line(xs, ys * 100, series_class(one.key), one.key)
    return frame.svg("Distribution of time to first token for each policy", "ms")


def load_plots(shown: Sequence[Shown]) -> list[str]:
    """One small plot a run, all on the same scales: requests in flight on each worker."""
    curves = [(one, *in_flight_over_time(one.run.result, LOAD_BUCKETS)) for one in shown]
    top = max(float(load.max(initial=0)) for _, _, load in curves)
    scale, unit = _time_scale([xs for _, xs, _ in curves])
    found = []
    for one, xs, load in curves:
        x = Scale(scale.low, scale.high, 40, 252)
        y = Scale(0, _up_to(top).high, 124, 30)
        frame = Frame(260, 160, x, y)
        frame.axes("{:g}", "{:,g}", f"time, {unit.name}", "", ticks=4)
        frame.text(40, 16, short(one.name, 34), "label")
        colour = series_class(one.key)
        at = (xs / unit.seconds).tolist()
        if len(load) > MOST_WORKER_LINES:
            frame.band(at, load.min(axis=0).tolist(), load.max(axis=0).tolist(), colour)
        else:
            for row in load:
                frame.line(at, row.tolist(), f"thin {colour}")
        frame.line(at, load.mean(axis=0).tolist(), "mean")
        found.append(
            f'<div data-k="{one.key}">{frame.svg(f"Requests in flight: {one.name}")}</div>'
        )
    return found


def scatter_plot(report: Report, shown: Sequence[Shown]) -> str:
    """One point a run: what it reused against how soon it answered."""
    points = [one for one in shown if np.isfinite(one.figures.ttft_mean_ms)]
    times = np.array([one.figures.ttft_mean_ms for one in points])
    # Means within a decade are read more easily on an even axis.
    is_even = bool(len(times)) and times.max() < 10 * times.min()
    x = _even_scale(times) if is_even else _log_scale(times, spread=1.25)
    level = _reachable(report, shown)
    top = max([100 * one.figures.reuse for one in points] + [100 * (level or 0.0)], default=0.0)
    frame = _frame(x, _up_to(top))
    kind = "" if is_even else " (logarithmic)"
    frame.axes("{:,g}", "{:g}", f"mean time to first token, ms{kind}", "reuse, %")
    if level is not None:
        frame.rule(level * 100, short(report.bound or "reachable", 40))
    taken: list[tuple[float, float]] = []
    for one in points:
        figures = one.figures
        at = figures.ttft_mean_ms, 100 * figures.reuse
        tip = f"{one.name}: reuse {at[1]:.2f} %, mean TTFT {at[0]:,.1f} ms"
        frame.dot(*at, series_class(one.key), one.key, tip)
        taken.append((frame.x(at[0]), frame.y(at[1])))
    for one, (px, py) in zip(points, list(taken), strict=True):
        _label(frame, px, py, short(one.name, 30), taken)
    return frame.svg("Mean time to first token against reuse, one point a run")


def loss_bars(shown: Sequence[Shown], classes: Mapping[str, int]) -> str:
    """One bar a run: all its prompt tokens, from cache and lost by class. Empty: nothing known."""
    rows = [one for one in shown if one.run.lost]
    if not rows:
        return ""
    left, right, pitch = 4.0, 436.0, 40
    frame = Frame(_WIDTH, pitch * len(rows) + 4, Scale(0, 1, left, right), Scale(0, 1, 0, 1))
    for place, one in enumerate(rows):
        result = one.run.result
        prompt = max(1, result.trace.prompt_tokens)
        top = pitch * place + 20
        frame.text(left, top - 5, short(one.name, 36), "label")
        frame.text(right, top - 5, f"{100 * result.reuse:.1f} % from cache", "tick end")
        frame.marks.append(f'<rect class="track" x="4" y="{top}" width="432" height="14"/>')
        parts = [("from cache", "kept", int(result.cached_tokens.sum()))]
        parts += [(name, f"c{classes[name] % 8}", n) for name, n in one.run.lost.items()]
        done = 0
        for name, colour, tokens in parts:
            x0, x1 = frame.x(done / prompt), frame.x((done + tokens) / prompt)
            done += tokens
            if x1 - x0 < 0.05:
                continue  # narrower than can be drawn; the table has its number
            tip = f"{one.name}, {name}: {tokens:,} tokens, {100 * tokens / prompt:.2f} %"
            box = f'x="{x0:.1f}" y="{top}" width="{x1 - x0:.1f}" height="14"'
            striped = classes.get(name, 0) >= 8
            frame.marks.append(f'<rect class="part {colour}" data-t="{escape(tip)}" {box}/>')
            if striped:
                frame.marks.append(f'<rect class="stripes" {box}/>')
    return frame.svg("Where each run's prompt tokens came from or why they were missed")


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    seconds: float


def _reachable(report: Report, shown: Sequence[Shown]) -> float | None:
    """The bound all of these runs share, if they do."""
    default = report.bounds[report.bound] if report.bound is not None else None
    found = {one.run.reachable if one.run.reachable is not None else default for one in shown}
    return found.pop() if len(found) == 1 else None


def _frame(x: Scale, y: Scale) -> Frame:
    return Frame(_WIDTH, _HEIGHT, x, y)


def _time_scale(seconds: Sequence[Floats]) -> tuple[Scale, _Unit]:
    last_s = max((float(xs.max(initial=0)) for xs in seconds), default=0.0)
    unit = _Unit("minutes", 60.0) if last_s > 300 else _Unit("s", 1.0)
    return Scale(0, last_s / unit.seconds or 1.0, _LEFT, _RIGHT), unit


def _up_to(top: float) -> Scale:
    """From 0 to a round number not below `top`."""
    step = nice_step(max(top, 1e-3) / 4)
    return Scale(0, step * np.ceil(max(top, 1e-3) / step - 1e-9), _BOTTOM, _TOP)


def _even_scale(values: Floats) -> Scale:
    """Around all values, with room at its ends; not from 0, for it is places that are compared."""
    low, high = float(values.min()), float(values.max())
    margin = max(high - low, 0.1 * high, 1e-3) / 5
    return Scale(max(0.0, low - margin), high + margin, _LEFT, _RIGHT)


def _log_scale(values: Floats, spread: float = 1.05) -> Scale:
    """Around all values; those of 0 and less are drawn at its low end."""
    above = values[values > 0]
    if not len(above):
        return Scale(1, 10, _LEFT, _RIGHT, is_log=True)
    low, high = float(above.min()) / spread, float(above.max()) * spread
    if high < 2 * low:  # one point, or all alike: room for a number on the axis
        low, high = low / 2, high * 2
    return Scale(low, high, _LEFT, _RIGHT, is_log=True)


def _label(frame: Frame, x: float, y: float, text: str, taken: list[tuple[float, float]]) -> None:
    """Names a point where there is room beside it; otherwise its tip and colour must do."""
    width = 6.4 * len(text)
    parts = np.linspace(-0.5, 0.5, 2 + len(text) // 2)
    for middle, level in ((x + 9 + width / 2, y + 4), (x - 9 - width / 2, y + 4)):
        if middle - width / 2 < frame.x.start or middle + width / 2 > frame.x.end:
            continue
        for at in (level, level - 13, level + 13):
            spots = [(middle + float(part) * width, at - 4) for part in parts]
            if not any(abs(a - c) < 8 and abs(b - d) < 11 for a, b in taken for c, d in spots):
                frame.text(middle, at, text, "note mid")
                taken.extend(spots)
                return
