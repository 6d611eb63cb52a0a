"""A report as one page: `index_html`. Nothing is fetched, nothing from outside is trusted.

Owns what stands where; the plots are `plots`, their looks `assets`. The page's policy
allows no network and only its own script, by digest: a name that escaped our escaping still runs
nothing.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from radixroute.replay.report.assets import SCRIPT, STYLE
from radixroute.replay.report.figures import idle_ms, lateness
from radixroute.replay.report.plots import (
    Shown,
    hit_rate_plot,
    load_plots,
    loss_bars,
    scatter_plot,
    ttft_plot,
)
from radixroute.replay.report.report import Report
from radixroute.replay.report.svg import COLOURS, series_class
from radixroute.replay.report.table import (
    COLUMNS,
    best,
    by_setting,
    cell,
    conclusion,
    setting_name,
    setting_names,
)
from radixroute.replay.report.text import escape
from radixroute.replay.results import IDLE_KINDS

_STRIPES = (
    '<svg width="0" height="0" aria-hidden="true"><defs><pattern id="stripes" width="5" height="5"'
    ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2" height="5"'
    ' fill="#fff" opacity="0.55"/></pattern></defs></svg>'
)


def index_html(report: Report) -> str:
    """The whole page. Some 60 kB, and 15 to 40 kB for each run."""
    trace = report.trace
    name = trace.name if trace is not None else "no trace"
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;'
            f" style-src &#39;unsafe-inline&#39;; script-src &#39;sha256-{allowed}&#39;"
            '">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>Replay of {escape(name)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>Replay of {escape(name)}</h1>",
            *_about(report),
            *(f'<p class="say">{escape(line)}</p>' for line in conclusion(report).split("\n")),
            *(_body(report) if report.runs else []),
            *_definitions(report),
            *_origin(report),
            '</main><div id="tip" role="status"></div>',
            f"<script>{SCRIPT}</script></body></html>",
            "",
        ]
    )


def _about(report: Report) -> list[str]:
    trace = report.trace
    if trace is None:
        return []
    return [
        f'<p class="soft">{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens,'
        f" {int(trace.output_tokens.sum()):,} output tokens over"
        f" {trace.duration_ns / 60e9:,.1f} minutes as recorded.</p>"
    ]


def _body(report: Report) -> list[str]:
    groups = _shown(report)
    classes = {
        name: place
        for place, name in enumerate(dict.fromkeys(n for run in report.runs for n in run.lost))
    }
    made = [_STRIPES, *_policy_keys(groups), *_results(report, groups)]
    if len(groups) == 1:
        for setting, shown in groups.items():
            made += [f"<h2>{escape(setting_name(setting))}</h2>"]
            made += _setting(report, shown, classes, _scatter(report, shown))
        return made
    points = [
        replace(one, name=f"{one.name}, {name}")
        for name, shown in zip(setting_names(list(groups)), groups.values(), strict=True)
        for one in shown
    ]
    made += ['<div class="plots wide">', _scatter(report, points), "</div>"]
    for place, (setting, shown) in enumerate(groups.items()):
        is_open = " open" if place == 0 else ""
        made += [
            f"<details{is_open}><summary>{escape(setting_name(setting))}</summary>",
            *_setting(report, shown, classes),
            "</details>",
        ]
    return made


def _shown(report: Report) -> dict[tuple[int, float, int], list[Shown]]:
    """The runs of each setting. A policy keeps its colour from setting to setting."""
    figures = report.figures()
    keys: dict[str, int] = {}
    found: dict[tuple[int, float, int], list[Shown]] = {}
    for setting, rows in by_setting(figures).items():
        seen: dict[str, int] = {}
        for row in rows:
            run = figures[row].name
            seen[run] = seen.get(run, 0) + 1
            name = run if seen[run] == 1 else f"{run} ({seen[run]})"
            key = keys.setdefault(name, len(keys))
            found.setdefault(setting, []).append(Shown(report.runs[row], figures[row], name, key))
    return found


def _policy_keys(groups: Mapping[tuple[int, float, int], Sequence[Shown]]) -> list[str]:
    names = {one.key: one.name for shown in groups.values() for one in shown}
    buttons = [
        f'<li><button type="button" data-k="{key}" aria-pressed="true">'
        '<svg viewBox="0 0 18 10" aria-hidden="true"><polyline class="line '
        f'{series_class(key)}" points="1,5 17,5"/></svg>{escape(name)}</button></li>'
        for key, name in sorted(names.items())
    ]
    return ['<ul class="keys" aria-label="policies: show or hide">', *buttons, "</ul>"]


def _results(report: Report, groups: Mapping[tuple[int, float, int], Sequence[Shown]]) -> list[str]:
    # With one setting its heading says it, and a phone has no room to say it again in each line.
    setting_heads = ["workers", "speed", "seed"] if len(groups) > 1 else []
    heads = ["policy", *setting_heads, *(column.heading for column in COLUMNS)]
    made = [
        '<h2>Results</h2><div class="card scroll"><table><thead><tr>',
        *(f"<th>{escape(head)}</th>" for head in heads),
        "</tr></thead><tbody>",
    ]
    for (workers, speed, seed), shown in groups.items():
        marks = [best(column, [one.figures for one in shown]) for column in COLUMNS]
        for place, one in enumerate(shown):
            cells = [escape(one.name)]
            if setting_heads:
                cells += [str(workers), f"{speed:g}", str(seed)]
            row = "".join(f"<td>{text}</td>" for text in cells)
            for column, mark in zip(COLUMNS, marks, strict=True):
                is_best = ' class="best"' if place in mark else ""
                row += f"<td{is_best}>{cell(column, one.figures)}</td>"
            begins = ' class="begins"' * (place == 0)
            made.append(f'<tr{begins} data-k="{one.key}">{row}</tr>')
    made.append("</tbody></table></div>")
    if report.bounds:
        named = ", ".join(f"{name} {value:.4f}" for name, value in report.bounds.items())
        made.append(f'<p class="soft">Reuse of bounds and references: {escape(named)}.</p>')
    return made


def _scatter(report: Report, points: Sequence[Shown]) -> str:
    return _figure(
        "Reuse against waiting",
        scatter_plot(report, points),
        "Up and to the left is better. One point a run.",
    )


def _setting(
    report: Report, shown: Sequence[Shown], classes: Mapping[str, int], first: str = ""
) -> list[str]:
    bars = loss_bars(shown, classes)
    return [
        '<div class="plots">',
        first,
        _figure(
            "Hit rate over time",
            hit_rate_plot(report, shown),
            "Of the prompt tokens that arrived in each span. A dashed line over the whole trace may"
            " be passed in single spans, never by a run's total.",
        ),
        _figure(
            "Time to first token",
            ttft_plot(shown),
            "How many requests were answered within how long. Further left is better.",
        ),
        _figure(
            "Where prompt tokens came from",
            bars + _loss_keys(classes),
            "Each bar: all prompt tokens of a run, and why those not from cache were missed.",
        )
        if bars
        else "",
        "</div>",
        '<div class="card wide"><h3>Requests in flight on each worker</h3><div class="small">',
        *load_plots(shown),
        '</div><p class="soft">From decision to end, mean of each span. Colour: one worker a line,'
        " or with many workers the band from idlest to busiest; black or white: mean.</p></div>",
        *(_loss_table(shown, classes) if bars else []),
        *_timing_table(shown),
    ]


def _loss_keys(classes: Mapping[str, int]) -> str:
    looks = [("from cache", "kept", False)]
    looks += [(name, f"c{k % COLOURS}", k >= COLOURS) for name, k in classes.items()]
    stripes = '<rect class="stripes" width="18" height="10"/>'
    keys = [
        f'<li><span><svg viewBox="0 0 18 10" aria-hidden="true"><rect class="part {colour}"'
        f' width="18" height="10"/>{stripes * is_striped}</svg>{escape(name)}</span></li>'
        for name, colour, is_striped in looks
    ]
    return f'<ul class="keys">{"".join(keys)}</ul>'


def _loss_table(shown: Sequence[Shown], classes: Mapping[str, int]) -> list[str]:
    rows = [
        f'<tr data-k="{one.key}"><td>{escape(one.name)}</td>'
        + "".join(f"<td>{one.run.lost.get(name, 0):,}</td>" for name in classes)
        + "</tr>"
        for one in shown
        if one.run.lost
    ]
    return [
        '<div class="card wide"><h3>Tokens missed, by class</h3><div class="scroll"><table>',
        "<thead><tr><th>policy</th>",
        *(f"<th>{escape(name)}</th>" for name in classes),
        "</tr></thead><tbody>",
        *rows,
        "</tbody></table></div></div>",
    ]


def _timing_table(shown: Sequence[Shown]) -> list[str]:
    """Idle time of workers, and of live runs how late requests were sent."""
    rows = []
    for one in shown:
        idle, late = idle_ms(one.run.result), lateness(one.run.result)
        if idle is None and late is None:
            continue
        spans = [f"{sum(each):,.1f} ({max(each):,.1f})" for each in (idle or {}).values()]
        spans = spans or ["-"] * len(IDLE_KINDS)
        spans.append("-" if late is None else f"{late.mean_ms:,.1f} ({late.max_ms:,.1f})")
        cells = "".join(f"<td>{span}</td>" for span in spans)
        rows.append(f'<tr data-k="{one.key}"><td>{escape(one.name)}</td>{cells}</tr>')
    if not rows:
        return []
    meanings = "; ".join(f"{kind}: {text}" for kind, text in IDLE_KINDS.items())
    return [
        '<div class="card wide"><h3>Idle while requests waited, ms</h3><div class="scroll">',
        "<table><thead><tr><th>policy</th>",
        *(f"<th>{kind}</th>" for kind in IDLE_KINDS),
        "<th>sent late</th></tr></thead><tbody>",
        *rows,
        f'</tbody></table></div><p class="soft">All workers together, and the idlest. {meanings}.'
        " Sent late: mean and most, of a live run.</p></div>",
    ]


def _figure(title: str, svg: str, caption: str) -> str:
    return (
        f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _definitions(report: Report) -> list[str]:
    ours = {column.heading: column.meaning for column in COLUMNS}
    if report.bound is not None:
        ours["% of reachable"] += f"; the bound is {report.bound}"
    words = {**ours, **report.definitions}
    return [
        "<h2>Definitions</h2><dl>",
        *(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in words.items()),
        "</dl>",
    ]


def _origin(report: Report) -> list[str]:
    rows = {
        "command": report.command,
        "configuration": report.config_hash,
        "trace": report.trace.digest if report.trace is not None else "",
    }
    return [
        "<h2>How this was made</h2>",
        *(
            f'<p><span class="soft">{word}</span> <code>{escape(text)}</code></p>'
            for word, text in rows.items()
            if text
        ),
    ]
