"""Sections: all that the page shows of one setting, from why the best is best to every figure.

Pure: a group of runs in, HTML and the charts it needs out.
"""

from collections.abc import Sequence

from radixroute.replay.report.figures import work_by_worker
from radixroute.replay.report.page.charts import Chart
from radixroute.replay.report.page.pieces import figure, multiples
from radixroute.replay.report.page.plots import (
    flight_charts,
    hit_rate_charts,
    parts_chart,
    reuse_chart,
    ttft_chart,
    work_charts,
)
from radixroute.replay.report.page.shown import Group, Shown
from radixroute.replay.report.page.tables import (
    figures_table,
    losses_table,
    misses_table,
    timing_table,
)
from radixroute.replay.report.page.words import percent
from radixroute.replay.report.text import escape
from radixroute.replay.results import LIVE

_SOON = "How soon requests are answered"
_SOON_CAPTION = "Further left is better. The best three are drawn; press a name for others."
_BEYOND = (
    " Left out is what no cache could have served. A bar may end beyond 100 %: its reasons count"
    " what recurs, and these caches have no room for all of it."
)


def why(group: Group, prefix: str, *, is_named: bool = False) -> tuple[list[str], list[Chart]]:
    """The one chart that shows why; none where nobody answered. `is_named`: says its setting."""
    if not any(one.is_answered for one in group.shown):
        return [], []
    chart = parts_chart(f"{prefix}-parts", group.shown)
    caption = "Shorter is better. Computing: from the worker's start on it to the first token."
    if any(one.figures.source == LIVE for one in group.shown):
        caption += " Of live runs the wait at the worker is not known: it counts as computing."
    title = "What the time to the first token goes into"
    return figure(f"{title}: {group.short_name}" if is_named else title, chart, caption), [chart]


def findings(group: Group) -> list[str]:
    """What detectors found in the runs of a setting. Empty where they found nothing."""
    rows = [
        f"<li><strong>{escape(found.title.capitalize())}</strong> ({escape(one.name)}):"
        f" {escape(found.sentence)}</li>"
        for one in group.shown
        for found in one.run.findings
    ]
    if not rows:
        return []
    return ["<section><h2>What stands out</h2>", '<ul class="findings">', *rows, "</ul></section>"]


def setting(group: Group, prefix: str) -> tuple[list[str], list[Chart]]:
    """Everything of a setting but `why` and `findings`."""
    shown = group.shown
    reuse = reuse_chart(f"{prefix}-reuse", shown)
    ttft = [ttft_chart(f"{prefix}-ttft", shown)] if any(one.is_answered for one in shown) else []
    rates = hit_rate_charts(f"{prefix}-rate", shown)
    flights = flight_charts(f"{prefix}-flight", shown)
    works = work_charts(f"{prefix}-work", shown)
    made = [
        '<div class="two">',
        *figure("Reuse: how much of what was possible", reuse, _reuse_caption(shown)),
        *(line for chart in ttft for line in figure(_SOON, chart, _SOON_CAPTION)),
        "</div>",
        *_worst(group),
        *multiples(
            "Prompt tokens from cache, over time",
            (
                (one.name, f"{percent(one.figures.reuse)} in all", [chart])
                for one, chart in zip(shown, rates, strict=True)
            ),
            f"Percent of the prompt tokens that arrived in each span, all on one scale. Grey:"
            f" {shown[0].name}; dashed: reachable, over the whole trace. Drag across one to look"
            " closer at all, press twice to see all again.",
        ),
        *multiples(
            "Load of each worker",
            (
                (one.name, _busiest(one), pair)
                for one, pair in zip(shown, zip(flights, works, strict=True), strict=True)
            ),
            "Above: requests in flight over time, the mean and the band from the idlest worker to"
            " the busiest. Below: prompt tokens that each worker computed, in percent of the mean."
            " Each policy has a scale of its own.",
        ),
        "<section><h2>All figures</h2>",
        *figures_table(shown),
        "</section>",
        *_misses(shown),
        *timing_table(shown),
    ]
    return made, [reuse, *ttft, *rates, *flights, *works]


def _reuse_caption(shown: Sequence[Shown]) -> str:
    base = "Further right with the first colour is better."
    has_losses = any(one.run.lost for one in shown)
    return base + (_BEYOND if has_losses and all(one.reachable for one in shown) else "")


def _worst(group: Group) -> list[str]:
    """Of the policy that the page tells to take: the others' losses are in their files."""
    first = group.answered[0] if group.answered else None
    rows = losses_table(first) if first else []
    if first is None or not rows:
        return []
    title = f"Requests that lost most under {first.name}, and why"
    return [f"<section><h2>{escape(title)}</h2>", *rows, "</section>"]


def _misses(shown: Sequence[Shown]) -> list[str]:
    rows = misses_table(shown)
    return (
        ["<section><h2>Prompt tokens missed, by reason</h2>", *rows, "</section>"] if rows else []
    )


def _busiest(one: Shown) -> str:
    work = work_by_worker(one.run.result)
    if not work.any():
        return "no prompt was computed"
    return f"worker {int(work.argmax())} computed most: {100 * float(work.max()):.0f} % of the mean"
