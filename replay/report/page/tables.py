"""Tables of the page: every figure of every policy, every class of missed tokens, the worst losses.

Pure: runs as they are shown in, HTML out.
"""

from collections.abc import Iterator, Sequence

from radixroute.replay.report.figures import idle_ms, lateness
from radixroute.replay.report.losses import Losses, LostRequest, losses
from radixroute.replay.report.page.pieces import Cell, table
from radixroute.replay.report.page.shown import Group, Shown
from radixroute.replay.report.page.words import duration, miss, percent
from radixroute.replay.report.table import COLUMNS, Column, best, cell
from radixroute.replay.report.text import escape
from radixroute.replay.results import IDLE_KINDS

# A reason is told where it is that much of what a request lost, or of what all lost.
_TOLD, _SEEN = 0.1, 0.005


def figures_table(shown: Sequence[Shown]) -> list[str]:
    """Every figure, the best of each marked."""
    marks = [best(column, [one.figures for one in shown]) for column in COLUMNS]
    rows = [
        [
            Cell(one.name),
            *(
                Cell(cell(column, one.figures), is_best=place in mark)
                for column, mark in zip(COLUMNS, marks, strict=True)
            ),
        ]
        for place, one in enumerate(shown)
    ]
    return table(("policy", *(_head(column) for column in COLUMNS)), rows, "cards")


def misses_table(shown: Sequence[Shown]) -> list[str]:
    """Tokens missed by class; without classes that took none. Empty where nothing is known."""
    known = [one for one in shown if one.run.lost]
    names = [
        name
        for name in dict.fromkeys(name for one in known for name in one.run.lost)
        if any(one.run.lost.get(name) for one in known)
    ]
    if not names:
        return []
    rows = [
        [Cell(one.name), *(Cell(f"{one.run.lost.get(name, 0):,}") for name in names)]
        for one in known
    ]
    return table(("policy", *(miss(name) for name in names)), rows, "cards reasons")


def settings_table(found: Sequence[Group]) -> list[str]:
    """The best policy of each setting and how far it is ahead. Empty where there is one setting."""
    if len(found) < 2:
        return []
    rows = []
    for group in found:
        first, second = (*group.answered[:2], None, None)[:2]
        ahead = "-"
        if first and second and second.figures.ttft_mean_ms:
            saved = 1 - first.figures.ttft_mean_ms / second.figures.ttft_mean_ms
            ahead = f"{percent(saved)} sooner than {second.name}"
        soon = duration(first.figures.ttft_mean_ms) if first else "-"
        name = first.name if first else "nobody answered"
        rows.append([Cell(group.short_name), Cell(name), Cell(soon), Cell(ahead)])
    return table(("setting", "best policy", "mean TTFT", "ahead of the next"), rows, "cards words")


def losses_table(one: Shown) -> list[str]:
    """The requests that lost most under one policy, and to what. Empty where none lost anything."""
    found = losses(one.run)
    if not found.worst:
        return []
    has_again = any(row.again_ms for row in found.worst)
    rows = [
        [
            Cell(f"{row.index}"),
            Cell(duration(row.lost_ms)),
            Cell(duration(row.ttft_ms)),
            Cell(f"{row.input_tokens:,} ({row.cached_tokens:,} cached)"),
            Cell(f"{row.arrival_s:,.1f} s"),
            Cell("; ".join(_reasons(row))),
        ]
        for row in found.worst
    ]
    heads = ("request", "lost", "TTFT", "prompt tokens", "arrived", "why")
    return [
        f'<p class="soft">{_sum(one.name, found, has_again)}</p>',
        *table(heads, rows, "cards words requests"),
    ]


def timing_table(shown: Sequence[Shown]) -> list[str]:
    """Idle time of workers, and of live runs how late requests were sent. Empty: not known."""
    rows = []
    for one in shown:
        idle, late = idle_ms(one.run.result), lateness(one.run.result)
        if late is None and not any(map(any, (idle or {}).values())):
            continue
        spans = [f"{sum(each):,.1f} ({max(each):,.1f})" for each in (idle or {}).values()]
        spans = spans or ["-"] * len(IDLE_KINDS)
        spans.append("-" if late is None else f"{late.mean_ms:,.1f} ({late.max_ms:,.1f})")
        rows.append([Cell(one.name), *(Cell(text) for text in spans)])
    if not rows:
        return []
    meanings = "; ".join(f"{kind}: {text}" for kind, text in IDLE_KINDS.items())
    return [
        "<section><h2>Idle while requests waited, ms</h2>",
        *table(("policy", *IDLE_KINDS, "sent late"), rows, "cards"),
        f'<p class="soft">All workers together, and the idlest. {meanings}. Sent late: mean and'
        " most, of a live run.</p></section>",
    ]


def _head(column: Column) -> str:
    return f"{column.heading}, {column.unit}" if column.unit else column.heading


def _sum(name: str, found: Losses, has_again: bool) -> str:
    parts = [
        f"{percent(part / found.lost_ms)} {word}"
        for word, part in (
            ("waiting at the router", found.router_ms),
            ("waiting at workers", found.queue_ms),
            ("computing what some cache had held or was about to hold", found.again_ms),
        )
        if part >= _SEEN * found.lost_ms
    ]
    again = (
        " Computing counts as lost as far as it went into tokens that a cache could have served."
        if has_again
        else ""
    )
    return escape(
        f"Of all time to first token under {name}, {percent(found.lost_ms / found.ttft_ms)} was"
        f" lost; of that {', '.join(parts)}.{again}"
    )


def _reasons(row: LostRequest) -> Iterator[str]:
    """Largest first; at least one."""
    told = [
        (row.router_ms, f"waited {duration(row.router_ms)} at the router"),
        (row.queue_ms, f"waited {duration(row.queue_ms)} in the queue of worker {row.worker}"),
        (row.again_ms, _again(row)),
    ]
    for ms, text in sorted(told, key=lambda one: -one[0]):
        if ms >= _TOLD * row.lost_ms:
            yield text


def _again(row: LostRequest) -> str:
    name, tokens = next(iter(row.again_tokens.items()), ("", 0))
    return f"computed {tokens:,} tokens again: {miss(name)}"
