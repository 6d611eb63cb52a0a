"""Reports for the terminal: a table with the best of each column marked, and what it comes to.

Pure: runs in, values of rich and text out. Runs are compared only with runs of the same setting
(workers, speed, seed).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from radixroute.replay.report.figures import RunFigures, idle_ms
from radixroute.replay.report.report import Report
from radixroute.replay.report.text import printable
from radixroute.replay.results import IDLE_KINDS, LIVE, SIMULATED

_BEST = "bold green"
# Differences below this are called equal: half a percent of a mean is within a trace's luck.
EQUAL = 0.005


@dataclass(frozen=True, slots=True)
class Column:
    """One number of each run, and which end of its range is good."""

    heading: str
    value: Callable[[RunFigures], float | None]
    form: str
    sign: int  # 1: more is better, -1: less is
    meaning: str
    unit: str = ""  # where the heading does not say it


COLUMNS = (
    Column("reuse", lambda f: f.reuse, "{:.4f}", 1, "cached prompt tokens / prompt tokens"),
    Column(
        "% of reachable",
        lambda f: None if f.of_reachable is None else 100 * f.of_reachable,
        "{:.1f}",
        1,
        "reuse over the reuse that the bound allows",
    ),
    Column(
        "TTFT mean",
        lambda f: f.ttft_mean_ms,
        "{:,.1f}",
        -1,
        "time from arrival to first token, ms; of answered requests",
        "ms",
    ),
    Column(
        "p50", lambda f: f.ttft_p50_ms, "{:,.1f}", -1, "half the requests waited no longer", "ms"
    ),
    Column("p90", lambda f: f.ttft_p90_ms, "{:,.1f}", -1, "nine of ten waited no longer", "ms"),
    Column("p99", lambda f: f.ttft_p99_ms, "{:,.1f}", -1, "99 of 100 waited no longer", "ms"),
    Column(
        "ITL mean",
        lambda f: f.itl_mean_ms,
        "{:.2f}",
        -1,
        "time between tokens, ms, over all tokens but the first of each request",
        "ms",
    ),
    Column(
        "load max/mean",
        lambda f: f.load_max_over_mean,
        "{:.3f}",
        -1,
        "prompt tokens of the worker that got most, over the mean of all",
    ),
)

# Of traces whose requests wait for each other.
PROGRAM_COLUMNS = (
    Column(
        "program s",
        lambda f: f.program_mean_ms / 1e3,
        "{:,.1f}",
        -1,
        "seconds from a program's first arrival to its last token, mean; of programs that ended",
    ),
    Column("p99 s", lambda f: f.program_p99_ms / 1e3, "{:,.1f}", -1, "99 of 100 took no longer"),
)


def columns_of(figures: Sequence[RunFigures]) -> tuple[Column, ...]:
    """Those that these runs have numbers for."""
    has_programs = any(math.isfinite(one.program_mean_ms) for one in figures)
    return (*COLUMNS, *PROGRAM_COLUMNS) if has_programs else COLUMNS


def table(report: Report) -> Table:
    """One line a run, one section a setting. The best of each column in a section has a `*`."""
    figures = report.figures()
    columns = columns_of(figures)
    name = printable(report.trace.name) if report.trace is not None else "no trace"
    made = Table(title=Text(f"{name}; TTFT and ITL in ms; * best"), title_justify="left")
    many_seeds = len({one.seed for one in figures}) > 1
    made.add_column("policy", no_wrap=True)
    for heading in ("workers", "speed", *(["seed"] if many_seeds else [])):
        made.add_column(heading, justify="right")
    for column in columns:
        made.add_column(column.heading, justify="right", no_wrap=True)
    for rows in by_setting(figures).values():
        marked = [best(column, [figures[row] for row in rows]) for column in columns]
        for place, row in enumerate(rows):
            one = figures[row]
            setting = [str(one.workers), f"{one.speed:g}", *([str(one.seed)] if many_seeds else [])]
            cells = [
                Text(cell(column, one) + ("*" if place in mark else " "))
                for column, mark in zip(columns, marked, strict=True)
            ]
            for text, mark in zip(cells, marked, strict=True):
                if place in mark:
                    text.stylize(_BEST)
            made.add_row(Text(printable(one.name)), *setting, *cells)
        made.add_section()
    return made


def by_setting(figures: Sequence[RunFigures]) -> dict[tuple[int, float, int], list[int]]:
    """Indices of the runs of each setting, in order of first appearance."""
    found: dict[tuple[int, float, int], list[int]] = {}
    for index, one in enumerate(figures):
        found.setdefault(one.setting, []).append(index)
    return found


def setting_name(setting: tuple[int, float, int]) -> str:
    return ", ".join(_setting_parts(setting))


def setting_names(settings: Sequence[tuple[int, float, int]]) -> list[str]:
    """What tells each from the others; empty where there is only one."""
    parts = [_setting_parts(setting) for setting in settings]
    varied = [len({one[place] for one in parts}) > 1 for place in range(3)]
    return [
        ", ".join(part for part, varies in zip(one, varied, strict=True) if varies) for one in parts
    ]


def _setting_parts(setting: tuple[int, float, int]) -> tuple[str, str, str]:
    workers, speed, seed = setting
    return f"{workers} worker{'s' * (workers != 1)}", f"speed {speed:g}", f"seed {seed}"


def best(column: Column, rows: Sequence[RunFigures]) -> set[int]:
    """Places of the rows that show the best value; none where there is nothing to choose."""
    shown = [cell(column, one) for one in rows]
    values = [column.value(one) for one in rows]
    known = [v for v in values if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return set()
    top = shown[values.index(max(known, key=lambda v: column.sign * v))]
    # What reads alike is alike: a mark on one of two equal numbers would claim a difference.
    marked = {place for place, text in enumerate(shown) if text == top}
    return marked if len(marked) < len(known) else set()


def cell(column: Column, one: RunFigures) -> str:
    value = column.value(one)
    return "-" if value is None or not math.isfinite(value) else column.form.format(value)


def conclusion(report: Report) -> str:
    """What the runs come to: one line a setting, computed, whichever way it comes out."""
    figures = report.figures()
    if not figures:
        return "No runs."
    groups = by_setting(figures)
    lines = []
    for setting, rows in groups.items():
        line = _verdict([figures[row] for row in rows])
        lines.append(f"{setting_name(setting)}: {line}" if len(groups) > 1 else line)
    return "\n".join(lines)


def idle_table(report: Report) -> Table | None:
    """Of live runs: how long each worker idled while requests waited, ms. None: there is none."""
    live = [run.result for run in report.runs if run.result.source == LIVE]
    rows = [(result, idle_ms(result)) for result in live]
    if not any(idle for _, idle in rows):
        return None
    made = Table(title=Text("Idle while requests waited, ms"), title_justify="left")
    for heading in ("policy", "speed", "worker", *IDLE_KINDS):
        made.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for result, idle in rows:
        for worker, spans in enumerate(zip(*(idle or {}).values(), strict=True)):
            cells = [f"{span:,.1f}" for span in spans]
            made.add_row(Text(printable(result.policy)), f"{result.speed:g}", str(worker), *cells)
        made.add_section()
    return made


def agreement(live: RunFigures, rows: Sequence[RunFigures]) -> str:
    """What a live run measured, beside what was simulated of it."""
    found = f"{printable(live.name)}: mean TTFT {live.ttft_mean_ms:,.1f} ms, reuse {live.reuse:.4f}"
    for one in rows:
        if one.source == SIMULATED and one.policy == live.policy:
            off = 100 * (one.ttft_mean_ms / live.ttft_mean_ms - 1) if live.ttft_mean_ms else 0.0
            found += f"; simulated {one.ttft_mean_ms:,.1f} ms ({off:+.0f} %), reuse {one.reuse:.4f}"
    if live.unanswered:
        found += f"; {live.unanswered} requests were never answered"
    return found + "."


def _verdict(rows: Sequence[RunFigures]) -> str:
    live = [one for one in rows if one.source == LIVE]
    if live:
        agreements = [agreement(one, rows) for one in live if math.isfinite(one.ttft_mean_ms)]
        ranking = [_ranking(live)] if len(live) > 1 or not agreements else []
        return " ".join([*agreements, *ranking])
    return _ranking(rows)


def _ranking(rows: Sequence[RunFigures]) -> str:
    answered = [one for one in rows if math.isfinite(one.ttft_mean_ms)]
    if not answered:
        return "no request was answered."
    ranked = sorted(answered, key=lambda one: one.ttft_mean_ms)
    first = ranked[0]
    found = f"{printable(first.policy)}: mean TTFT {first.ttft_mean_ms:,.1f} ms"
    if len(ranked) > 1:
        second = ranked[1]
        saved = 1 - first.ttft_mean_ms / second.ttft_mean_ms if second.ttft_mean_ms else 0.0
        if saved < EQUAL:
            found = (
                f"{printable(first.policy)} and {printable(second.policy)} answer equally soon:"
                f" mean TTFT {first.ttft_mean_ms:,.1f} and {second.ttft_mean_ms:,.1f} ms"
            )
        else:
            found = (
                f"{printable(first.policy)} answers first: mean TTFT {100 * saved:.0f} % below"
                f" {printable(second.policy)}, the next"
            )
    found += f"; reuse {first.reuse:.4f}"
    if first.of_reachable is not None:
        found += f", {100 * first.of_reachable:.0f} % of what is reachable"
    most = max(rows, key=lambda one: one.reuse)
    if most.reuse > first.reuse:
        found += f" ({printable(most.policy)} reuses most: {most.reuse:.4f})"
    unanswered = sum(one.unanswered for one in rows)
    if unanswered:
        found += f". {unanswered} requests were never answered and count in no time"
    return found + "."
