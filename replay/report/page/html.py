"""A report as one page: `index_html`. Nothing is fetched, nothing from outside is trusted.

Owns what stands where. The page's policy allows no network and only its own scripts, by digest: a
name that escaped our escaping would still run nothing.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from radixroute.replay.report.page.advice import Advice, advice
from radixroute.replay.report.page.charts import Chart, charts_json
from radixroute.replay.report.page.library import CHART, ZOOM
from radixroute.replay.report.page.pieces import pairs
from radixroute.replay.report.page.sections import findings, setting, why
from radixroute.replay.report.page.shown import Group, Standing, groups, standings
from radixroute.replay.report.page.tables import settings_table
from radixroute.replay.report.page.words import MISSES, count, duration, miss, percent, span
from radixroute.replay.report.report import Report
from radixroute.replay.report.table import COLUMNS
from radixroute.replay.report.text import escape

_BEST = 3  # policies on the first screen
_COUNTS = ("none", "one", "two", "three")


def index_html(report: Report) -> str:
    """The whole page: 240 kB of libraries, and 5 to 10 kB for each run."""
    found = groups(report)
    ranked = standings(found)
    body, charts = _body(report, found, ranked)
    scripts = (CHART.script, ZOOM.script, _asset("page.js"))
    allowed = " ".join(f"&#39;sha256-{_digest(script)}&#39;" for script in scripts)
    name = escape(report.trace.name if report.trace is not None else "no trace")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;'
            f' style-src &#39;unsafe-inline&#39;; script-src {allowed}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>Replay of {name}</title>",
            f"<style>{_asset('page.css')}</style></head><body><main>",
            f'<p class="kicker">Replay of {name}</p>',
            *body,
            *_depended(report),
            *_definitions(report),
            "</main>",
            f'<script type="application/json" id="charts">{charts_json(charts)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
            "",
        ]
    )


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _body(
    report: Report, found: Sequence[Group], ranked: Sequence[Standing]
) -> tuple[list[str], list[Chart]]:
    told = advice(found, ranked)
    made = [_sentence(told), _about(report, found)]
    made.append("<noscript><p>Charts need JavaScript; words and tables do not.</p></noscript>")
    if not found:
        return made, []
    shown_why, charts = why(found[0], "s0", is_named=len(found) > 1)
    made += ['<div class="first"><div>', *_best(found, ranked), *_notes(told), "</div>"]
    made += [*shown_why, "</div>", *_settings(found)]
    for place, group in enumerate(found):
        inside, drawn = setting(group, f"s{place}")
        charts += drawn
        if len(found) == 1:
            return [*made, *findings(group), *inside], charts
        again: list[str] = []
        if place:
            again, more = why(group, f"s{place}")
            charts += more
        is_open = "" if place else " open"
        made.append(f"<details{is_open}><summary>{escape(group.name)}</summary>")
        made += [*again, *findings(group), *inside, "</details>"]
    return made, charts


def _sentence(told: Advice) -> str:
    text = escape(told.sentence)
    for name in told.names:
        text = text.replace(escape(name), f"<strong>{escape(name)}</strong>", 1)
    return f"<h1>{text}</h1>"


def _about(report: Report, found: Sequence[Group]) -> str:
    trace = report.trace
    if trace is None:
        return ""
    facts = [
        count(len(trace), "request"),
        f"over {span(trace.duration_ns / 1e9)} as recorded",
        f"{trace.prompt_tokens:,} prompt tokens",
        f"{int(trace.output_tokens.sum()):,} output tokens",
    ]
    where = found[0].name if len(found) == 1 else count(len(found), "setting")
    return f'<p class="soft">{escape(", ".join(facts))}; {escape(where)}.</p>'


def _best(found: Sequence[Group], ranked: Sequence[Standing]) -> list[str]:
    made = [f"<h2>The best {_COUNTS[min(_BEST, len(ranked))]}</h2>" if len(ranked) > 1 else ""]
    made.append('<ol class="three">')
    for one in ranked[:_BEST]:
        size, facts = _standing(found, one)
        made.append(
            f"<li><strong>{escape(one.name)}</strong> <b>{escape(size)}</b>"
            f"<span>{escape(facts)}</span></li>"
        )
    return [*made, "</ol>"]


def _standing(found: Sequence[Group], one: Standing) -> tuple[str, str]:
    """What it comes to, and what else there is to say."""
    if len(found) > 1:
        above = max(0.0, one.above - 1)
        wins = f"first in {one.wins} of {count(one.settings, 'setting')}"
        return f"+{percent(above)}", f"mean TTFT above the best of each setting; {wins}"
    figures = next(run.figures for run in found[0].answered if run.name == one.name)
    facts = [f"p99 {duration(figures.ttft_p99_ms)}"]
    if figures.itl_mean_ms > 0:
        facts.append(f"{duration(figures.itl_mean_ms)} between tokens")
    facts.append(f"{percent(figures.reuse)} of prompt tokens from cache")
    return duration(figures.ttft_mean_ms), "; ".join(facts)


def _notes(told: Advice) -> list[str]:
    if not told.notes:
        return []
    return ['<ul class="notes">', *(f"<li>{escape(note)}</li>" for note in told.notes), "</ul>"]


def _settings(found: Sequence[Group]) -> list[str]:
    rows = settings_table(found)
    return ["<section><h2>Setting by setting</h2>", *rows, "</section>"] if rows else []


def _depended(report: Report) -> list[str]:
    trace = report.trace
    rows = {"command": report.command, **report.settings}
    if trace is not None:
        rows["trace"] = f"{trace.name}, digest {trace.digest}, blocks of {trace.block_size} tokens"
    rows["digest of all settings"] = report.config_hash
    rows |= {
        f"reuse of {name.replace('_', ' ')}": f"{value:.4f}"
        for name, value in report.bounds.items()
    }
    told = [(word, text) for word, text in rows.items() if text]
    if not told:
        return []
    return ["<section><h2>What this depended on</h2>", *pairs(told), "</section>"]


def _definitions(report: Report) -> list[str]:
    ours = {column.heading: column.meaning for column in COLUMNS}
    if report.bound is not None:
        bound = report.bound.replace("_", " ")
        ours["% of reachable"] += f"; the bound is {bound}"
    words = [*ours.items(), *((_word(name), text) for name, text in report.definitions.items())]
    return ["<section><h2>Words</h2>", *pairs(words), "</section>"]


def _word(name: str) -> str:
    """A class of missed tokens as the charts call it, a bound by its name."""
    return f"{miss(name)} ({name})" if name in MISSES else name.replace("_", " ")
