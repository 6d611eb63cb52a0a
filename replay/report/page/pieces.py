"""Pieces of HTML that the page is made of: figures with their keys, tables, small multiples.

Pure. Text from outside goes through `escape`; what is called `html` is HTML already. No piece has a
style or a script of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from radixroute.replay.report.page.charts import Chart, Kind, Series
from radixroute.replay.report.text import escape


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    is_best: bool = False


def figure(title: str, chart: Chart, caption: str) -> list[str]:
    """A chart with a heading, its keys and a way back from zooming."""
    return [
        "<figure>",
        f"<h2>{escape(title)}</h2>",
        *keys(chart),
        canvas(chart),
        f"<figcaption>{escape(caption)}{_again(chart)}</figcaption></figure>",
    ]


def canvas(chart: Chart) -> str:
    """What the script draws the chart on."""
    return (
        f'<div class="canvas"><canvas id="{chart.name}" role="img"'
        f' aria-label="{escape(chart.title)}"></canvas></div>'
    )


def keys(chart: Chart) -> list[str]:
    """A button for each series, which shows or hides it. None for one series alone."""
    if len(chart.series) < 2:
        return []
    buttons = [
        f'<li><button type="button" data-chart="{chart.name}" data-series="{place}"'
        f' aria-pressed="{"false" if one.is_hidden else "true"}">'
        f"{_swatch(chart, one)}{escape(one.name)}</button></li>"
        for place, one in enumerate(chart.series)
    ]
    return ['<ul class="keys">', *buttons, "</ul>"]


def multiples(
    title: str, panels: Iterable[tuple[str, str, Sequence[Chart]]], caption: str
) -> list[str]:
    """Small charts beside one another: (name, what it comes to, charts) each."""
    made = [f"<section><h2>{escape(title)}</h2>"]
    made.append(f'<p class="soft">{escape(caption)}</p><div class="small">')
    for name, sum_up, charts in panels:
        made.append(f"<figure><h3>{escape(name)}</h3>")
        if sum_up:
            made.append(f'<p class="soft">{escape(sum_up)}</p>')
        made += [*(canvas(chart) for chart in charts), "</figure>"]
    return [*made, "</div></section>"]


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], classes: str = "") -> list[str]:
    """On a narrow screen each row becomes a card, so each cell knows its heading."""
    made = [f'<div class="scroll"><table class="{classes}"><thead><tr>']
    made += [f'<th scope="col">{escape(head)}</th>' for head in heads]
    made.append("</tr></thead><tbody>")
    for row in rows:
        made.append("<tr>")
        for place, (head, one) in enumerate(zip(heads, row, strict=True)):
            if not place:
                made.append(f'<th scope="row">{escape(one.text)}</th>')
                continue
            best = ' class="best"' if one.is_best else ""
            made.append(f'<td{best} data-head="{escape(head)}">{escape(one.text)}</td>')
        made.append("</tr>")
    return [*made, "</tbody></table></div>"]


def pairs(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Words and what they stand for."""
    return [
        "<dl>",
        *(f"<div><dt>{escape(word)}</dt><dd>{escape(text)}</dd></div>" for word, text in rows),
        "</dl>",
    ]


def _swatch(chart: Chart, one: Series) -> str:
    kind = "bar" if chart.kind is Kind.BARS else "dashed" if one.is_dashed else "plain"
    return f'<span class="swatch {kind} {one.color}"></span>'


def _again(chart: Chart) -> str:
    if chart.kind is not Kind.LINES:
        return ""
    return (
        '<span class="mouse"> Drag across to look closer.</span>'
        f' <button type="button" class="again" data-again="{chart.name}" hidden>show all</button>'
    )
