"""The charts of a replay: which numbers show it, over which ranges, and in which colours.

Pure: runs as they are shown in, charts out. A policy has one colour all over the page; parts of
bars have their own, in an order that stays apart for the colour-blind (`page.css`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.report.figures import (
    in_flight_over_time,
    share_over_time,
    ttft_distribution,
    ttft_parts,
    work_by_worker,
)
from radixroute.replay.report.losses import is_avoidable
from radixroute.replay.report.page.charts import Axis, Chart, Kind, Series
from radixroute.replay.report.page.shown import COLOURS, Shown
from radixroute.replay.report.page.words import duration, miss, percent

# Enough for the eye, and a hundred runs stay within a few megabytes.
TIME_BUCKETS = 60
# Curves that are drawn before anybody presses a key: more cannot be told apart.
FIRST_CURVES = 3
# Reasons of missed tokens that have a colour of their own; the rest are one part.
MOST_REASONS = 5
LEAST_SEEN = 0.005  # of a bar: less is part of the rest
_QUIET = "quiet"  # the colour of what is there to compare with


def parts_chart(name: str, shown: Sequence[Shown]) -> Chart:
    """Mean TTFT of each policy, from what it is made up."""
    answered = [one for one in shown if one.is_answered]
    parts = [ttft_parts(one.run.result) for one in answered]
    means = [one.means() for one in parts]
    has_queue = any(one.has_queue for one in parts)
    words = (
        ("computes the prompt" if has_queue else "at the worker", "k0", 2),
        ("waits at the worker", "k1", 1),
        ("waits at the router", "k3", 0),
    )
    unit, scale = _time_unit(max((sum(one) for one in means), default=0.0))
    series = [
        Series(word, [one[part] / scale for one in means], color=color)
        for word, color, part in words
        if any(one[part] for one in means) or part == 2
    ]
    return Chart(
        name,
        "Mean time to first token of each policy, and what it went into",
        Kind.BARS,
        Axis(f"mean, {unit}", unit, 0.0, _longest(series)),
        Axis(),
        series,
        labels=[one.name for one in answered],
        ends=[duration(one.figures.ttft_mean_ms) for one in answered],
    )


def reuse_chart(name: str, shown: Sequence[Shown]) -> Chart:
    """What each policy reused and missed, as shares of what could be reached where that is known.

    Missed tokens that no cache could have served are left out. With them, or where the bound is
    less than all that recurs, a bar may end beyond 100 %.
    """
    is_known = all(one.reachable for one in shown)
    wholes = [
        (one.reachable or 1.0 if is_known else 1.0) * max(1, one.run.result.trace.prompt_tokens)
        for one in shown
    ]

    def series(word: str, tokens: Sequence[int], color: str) -> Series:
        shares = [100 * n / whole for n, whole in zip(tokens, wholes, strict=True)]
        return Series(word, shares, color=color)

    found = [series("reused", [int(one.run.result.cached_tokens.sum()) for one in shown], "k0")]
    reasons, others = _reasons(shown, wholes)
    for color, reason in zip(("k1", "k2", "k3", "k4", "k5"), reasons, strict=False):
        lost = [one.run.lost.get(reason, 0) for one in shown]
        found.append(series(f"missed: {miss(reason)}", lost, color))
    if others:
        lost = [sum(one.run.lost.get(reason, 0) for reason in others) for one in shown]
        found.append(series("missed: other reasons", lost, "k6"))
    of = "what could be reused" if is_known else "all prompt tokens"
    return Chart(
        name,
        f"What each policy reused, and why it missed the rest, in percent of {of}",
        Kind.BARS,
        Axis("% of reachable" if is_known else "% of prompt tokens", "%", 0.0, _longest(found)),
        Axis(),
        found,
        labels=[one.name for one in shown],
        ends=[f"{percent(share / 100)} reused" for share in found[0].ys],
    )


def ttft_chart(name: str, shown: Sequence[Shown]) -> Chart:
    """Share of the requests answered within a time, on a logarithmic axis."""
    answered = [one for one in shown if one.is_answered]
    curves = [ttft_distribution(one.run.result) for one in answered]
    low, high = _log_range([xs for xs, _ in curves])
    return Chart(
        name,
        "How many requests were answered within how long",
        Kind.LINES,
        Axis("time to first token, ms", "ms", low, high, is_log=True),
        Axis("% of requests answered", "%", 0.0, 100.0),
        [
            Series(
                one.name,
                (100 * ys).tolist(),
                np.clip(xs, low, high).tolist(),
                color_of(one.key),
                is_dashed_key(one.key),
                is_bold=place == 0,
                is_hidden=place >= FIRST_CURVES,
            )
            for place, (one, (xs, ys)) in enumerate(zip(answered, curves, strict=True))
        ],
    )


def hit_rate_charts(prefix: str, shown: Sequence[Shown]) -> list[Chart]:
    """One for each run, on the same scales: share of the arriving prompt tokens from a cache."""
    curves = [
        share_over_time(one.run.result, one.run.result.cached_tokens, TIME_BUCKETS) for one in shown
    ]
    unit = time_unit([xs for xs, _ in curves])
    last = max((float(xs.max(initial=0)) for xs, _ in curves), default=0.0)
    levels = [100 * (one.reachable or 0.0) for one in shown]
    top = round_up(max([*levels, *(100 * float(ys.max(initial=0)) for _, ys in curves)]))
    first_xs, first_ys = curves[0]
    found = []
    for place, (one, (xs, ys)) in enumerate(zip(shown, curves, strict=True)):
        series = [
            Series(one.name, (100 * ys).tolist(), (xs / unit.seconds).tolist(), "k0", is_bold=True)
        ]
        if place:
            at = (first_xs / unit.seconds).tolist()
            series.append(Series(shown[0].name, (100 * first_ys).tolist(), at, _QUIET))
        if levels[place]:
            ends = [0.0, last / unit.seconds]
            series.append(Series("reachable", [levels[place]] * 2, ends, _QUIET, is_dashed=True))
        found.append(
            Chart(
                f"{prefix}-{place}",
                f"Hit rate of {one.name} over time",
                Kind.LINES,
                Axis("", unit.name, 0.0, last / unit.seconds or 1.0),
                Axis("", "%", 0.0, top),
                series,
                is_small=True,
                group=prefix,
            )
        )
    return found


def flight_charts(prefix: str, shown: Sequence[Shown]) -> list[Chart]:
    """One for each run, each on its own scale: requests in flight, idlest to busiest worker."""
    curves = [in_flight_over_time(one.run.result, TIME_BUCKETS) for one in shown]
    unit = time_unit([xs for xs, _ in curves])
    found = []
    for place, (one, (xs, load)) in enumerate(zip(shown, curves, strict=True)):
        at = (xs / unit.seconds).tolist()
        found.append(
            Chart(
                f"{prefix}-{place}",
                f"Requests in flight on the workers of {one.name} over time",
                Kind.LINES,
                Axis("", unit.name, 0.0, float(xs.max(initial=0)) / unit.seconds or 1.0),
                Axis("", "", 0.0),
                [
                    Series(
                        "mean of all workers", load.mean(axis=0).tolist(), at, "k0", is_bold=True
                    ),
                    Series("idlest worker", load.min(axis=0).tolist(), at, "k0"),
                    Series("busiest worker", load.max(axis=0).tolist(), at, "k0", fills_to=1),
                ],
                is_small=True,
                group=prefix,
            )
        )
    return found


def work_charts(prefix: str, shown: Sequence[Shown]) -> list[Chart]:
    """One for each run, each on its own scale: prompt tokens that each worker had to compute."""
    return [
        Chart(
            f"{prefix}-{place}",
            f"Prompt tokens that each worker of {one.name} computed, in percent of the mean",
            Kind.COLUMNS,
            Axis(),
            Axis("", "%", low=0.0),
            [Series("computed", (100 * work_by_worker(one.run.result)).tolist(), color="k0")],
            labels=[f"worker {worker}" for worker in range(one.run.result.workers)],
            is_small=True,
        )
        for place, one in enumerate(shown)
    ]


def color_of(key: int) -> str:
    return f"k{key % COLOURS}"


def is_dashed_key(key: int) -> bool:
    """Every other time round the colours."""
    return (key // COLOURS) % 2 == 1


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """Of an axis of time over a trace."""

    name: str
    seconds: float


def time_unit(seconds: Sequence[Floats]) -> TimeUnit:
    last_s = max((float(xs.max(initial=0)) for xs in seconds), default=0.0)
    return TimeUnit("min", 60.0) if last_s > 300 else TimeUnit("s", 1.0)


def _longest(parts: Sequence[Series]) -> float:
    """Where an axis of bars ends: just behind the longest."""
    totals = [math.fsum(one) for one in zip(*(part.ys for part in parts), strict=True)]
    return 1.02 * max(totals, default=0.0) or 1.0


def round_up(top: float) -> float:
    """A round number not below it, three steps of the axis above 0."""
    rough = max(top, 1e-3) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return float(step * math.ceil(top / step - 1e-9)) or step


def _time_unit(most_ms: float) -> tuple[str, float]:
    return ("s", 1000.0) if most_ms > 5000 else ("ms", 1.0)


def _reasons(shown: Sequence[Shown], wholes: Sequence[float]) -> tuple[list[str], list[str]]:
    """Classes of tokens that a cache could have served: those with a colour, and the rest."""
    most: dict[str, float] = {}  # of a whole, over all runs
    for one, whole in zip(shown, wholes, strict=True):
        for name, tokens in one.run.lost.items():
            if is_avoidable(name) and tokens:
                most[name] = max(most.get(name, 0.0), tokens / whole)
    ranked = sorted(most, key=lambda name: (-most[name], name))
    seen = sum(share >= LEAST_SEEN for share in most.values())
    coloured = min(seen, MOST_REASONS)
    return ranked[:coloured], ranked[coloured:]


def _log_range(times: Sequence[Floats]) -> tuple[float, float]:
    """Around all values; those of 0 and less are drawn at its low end."""
    above = np.concatenate([xs[xs > 0] for xs in times]) if times else np.empty(0)
    if not len(above):
        return 1.0, 10.0
    low, high = float(above.min()), float(above.max())
    return (low, high) if high >= 2 * low else (low / 2, high * 2)
