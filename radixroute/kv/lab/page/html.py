"""The lab's report as one page: `page_html`. Nothing is fetched, nothing from outside is trusted.

The page's policy allows no network and only its own two scripts, by digest: a name that escaped our
escaping would still run nothing.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence

from radixroute.kv.lab.page.assets import SCRIPT, STYLE
from radixroute.kv.lab.records import Kind, LabReport, Plot, Result, Table
from radixroute.replay.report.page.library import CHART
from radixroute.replay.report.text import escape, printable


def page_html(report: LabReport) -> str:
    """The whole page; about 250 kB, most of it the library."""
    scripts = (CHART.script, SCRIPT)
    allowed = " ".join(f"&#39;sha256-{_digest(script)}&#39;" for script in scripts)
    plots = [plot for result in report.results for plot in result.plots]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;'
            f' style-src &#39;unsafe-inline&#39;; script-src {allowed}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            "<title>What a KV cache is worth</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *_head(report),
            *(line for result in report.results for line in _result(result)),
            *_skipped(report),
            f'<p class="soft">Drawn with {CHART.package} {CHART.version} (MIT licence).</p>',
            "</main>",
            f'<script type="application/json" id="plots">{_data(plots)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _head(report: LabReport) -> Iterator[str]:
    quick = (
        " A quick run: its sizes are small and its times mean little." if report.is_quick else ""
    )
    yield "<h1>What a KV cache is worth</h1>"
    yield (
        f"<p>Measured on {escape(report.machine)}, with {escape(', '.join(report.models))}, in"
        f" {report.seconds:,.0f} s.{quick} FLOPs and bytes are counted, times are the least of"
        " several runs. Touch a plot for its numbers, a name below it to hide its curve.</p>"
    )
    yield f'<p class="soft"><code>{escape(report.command)}</code></p>'
    yield "<noscript><p>The plots need JavaScript; the words and tables do not.</p></noscript><nav>"
    for one in report.results:
        yield f'<a href="#{one.name}">{escape(one.title)}</a>'
    yield "</nav>"


def _result(result: Result) -> Iterator[str]:
    yield f'<section id="{result.name}"><h2>{escape(result.title)}</h2>'
    yield f'<p class="question">{escape(result.question)}</p>'
    for paragraph in result.text.split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    yield '<div class="plots">'
    for plot in result.plots:
        yield from _figure(plot)
    yield "</div>"
    for table in result.tables:
        yield f"<details><summary>{escape(table.title)}</summary>{_table(table)}</details>"
    yield "</section>"


def _figure(plot: Plot) -> Iterator[str]:
    title = escape(plot.title)
    other = "linear" if plot.is_log_y else "logarithmic"
    button = (
        ""
        if plot.kind is Kind.BARS
        else f'<button id="scale-{plot.name}" title="Scale of the upright axis">{other}</button>'
    )
    yield f'<figure><div class="top"><h3>{title}</h3>{button}</div>'
    yield (
        f'<div class="canvas"><canvas id="canvas-{plot.name}" role="img"'
        f' aria-label="{title}"></canvas></div></figure>'
    )


def _table(table: Table) -> str:
    kinds = [' class="word"' if is_word else "" for is_word in table.words]

    def line(tag: str, row: Sequence[str]) -> str:
        cells = (f"<{tag}{k}>{escape(one)}</{tag}>" for k, one in zip(kinds, row, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    rows = "".join(line("td", row) for row in table.rows)
    inside = f"<thead>{line('th', table.columns)}</thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table>{inside}</table></div>'


def _skipped(report: LabReport) -> Iterator[str]:
    if report.skipped:
        yield "<h2>Not measured</h2>"
    for one in report.skipped:
        yield f"<p>{escape(one.title)}: {escape(one.reason)}</p>"


def _data(plots: list[Plot]) -> str:
    """As JSON inside a script element: without the one sign that could end it."""
    values = [
        {
            "name": plot.name,
            "kind": plot.kind.value,
            "x": printable(plot.x_label),
            "y": printable(plot.y_label),
            "logX": plot.is_log_x,
            "logY": plot.is_log_y,
            "categories": [printable(one) for one in plot.categories],
            "series": [
                {
                    "name": printable(one.name),
                    "formula": one.is_formula,
                    "xs": one.xs,
                    "ys": [float(f"{y:.6g}") for y in one.ys],
                }
                for one in plot.series
            ],
        }
        for plot in plots
    ]
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")
