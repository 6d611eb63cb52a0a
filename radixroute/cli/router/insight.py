"""The commands that show what a router's onlookers make of its work: `misses`, `shadow`."""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from radixroute.cli.console import (
    JsonOption,
    cell,
    json_values,
    page_width,
    share,
    show,
    show_json,
    show_table_within,
    show_wrapped,
    table_of,
)
from radixroute.cli.router.by_worker import WorkerColumn, show_by_worker
from radixroute.cli.router.inspect import router_client
from radixroute.cli.router_address import NameOption, RouterOption
from radixroute.errors import BadConfig

if TYPE_CHECKING:
    from radixroute.protos import radixroute_pb2 as pb


# Of prompt tokens that are left out.
_WHY_NOT = {
    "stream": "a worker's event stream was not up to date (`radixroute workers`)",
    "believed": "a worker tells nothing of its cache",
    "ranks": "their worker has several ranks, and which one runs a request it decides",
    "leased": "their clients stream from the worker themselves",
    "resumed": "another router began their streams",
    "unread": "only their engine can read such prompts",
    "too_many": "too many requests were open",
}
_ROWS = ("requests", "sent elsewhere", "hit rate", "more hits (points)", "TTFT (ms)", "TTFT")


class By(StrEnum):
    """What missed tokens are told apart by."""

    CLASS = "class"
    WORKER = "worker"
    TENANT = "tenant"
    SESSION = "session"
    TIME = "time"


def seconds_of(text: str) -> float:
    """Of `90s`, `15m` or `1h`. Raises `BadConfig`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None or float(found[1]) <= 0:
        raise BadConfig(f"--window {text}: write a time such as 90s, 15m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(misses)
    app.command()(shadow)


def misses(
    ctx: typer.Context,
    window: Annotated[
        str, typer.Option("--window", help="Back from now: 90s, 15m, 1h. Default: all kept.")
    ] = "",
    by: Annotated[By, typer.Option("--by", help="What the tokens are told apart by.")] = By.CLASS,
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why prompt tokens were computed that a cache might have served, and what to change.

    Example: [bold]radixroute misses --window 15m --by worker[/]
    """
    with router_client(ctx, router, name) as client:
        seen = client.misses(seconds_of(window) if window else 0.0)
    if as_json:
        show_json(json_values(seen))
        return
    total = seen.total
    if not total.requests:
        show("no request was attributed in that time")
    else:
        show_table_within(_BY[by](seen), page_width())
        show_wrapped(
            f"{total.requests:,} requests in {seen.window_s / 60:.0f} min:"
            f" {share(total.cached_tokens, total.prompt_tokens)} of {total.prompt_tokens:,} prompt"
            f" tokens from cache, {share(total.cached_tokens, total.reachable_tokens)} of what one"
            f" cache without a limit would have had. [bold]{cell(seen.advice)}[/]"
        )
    for why, n in sorted(seen.unattributed.items()):
        show_wrapped(f"{n:,} prompt tokens are left out: {_WHY_NOT.get(why, cell(why))}")


def shadow(
    ctx: typer.Context,
    request_id: Annotated[
        str | None,
        typer.Argument(help="What each shadow did with this request, too; its whole id."),
    ] = None,
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what other policies would have made of the same requests (insight.shadows).

    Example: [bold]radixroute shadow[/]
    """
    with router_client(ctx, router, name) as client:
        seen = client.shadows(request_id or "")
    if as_json:
        show_json(json_values(seen))
        return
    if not seen.figures:
        show("the shadows have not begun: no worker has joined yet")
        return
    show_by_worker(_ROWS, [_column(one, number) for number, one in enumerate(seen.figures)])
    for line in _words(seen):
        show_wrapped(line)
    for choice in seen.choices:
        show_wrapped(
            f"{cell(choice.policy)} had sent it to [bold]{cell(choice.worker_id)}[/]:"
            f" {choice.cached_tokens} tokens cached, first token after {choice.ttft_ms:.0f} ms"
        )
    if request_id and not seen.choices:
        show_wrapped("no shadow has come to that request yet, or it is forgotten")


def _by_class(seen: "pb.MissesResponse") -> Table:
    missed = seen.total.missed
    everything = sum(missed.values())
    table = table_of("", ("why", "tokens", "of missed", "of prompts"), left=("why",))
    for name in sorted(missed, key=lambda one: -missed[one]):
        of_prompts = share(missed[name], seen.total.prompt_tokens)
        style = "bold" if name == seen.largest else ""
        why = cell(name.replace("_", " "))
        table.add_row(
            why, f"{missed[name]:,}", share(missed[name], everything), of_prompts, style=style
        )
    return table


def _by_rows(what: str, rows: "Sequence[pb.MissRow]", largest: str) -> Table:
    shown = f"of these {largest.replace('_', ' ')}" if largest else ""
    columns = (what, "requests", "prompt tokens", "hit rate", "missed", *filter(None, (shown,)))
    table = table_of("", columns, left=(what,))
    for row in rows:
        cells = (
            cell(row.name),
            str(row.requests),
            f"{row.prompt_tokens:,}",
            share(row.cached_tokens, row.prompt_tokens),
            f"{sum(row.missed.values()):,}",
        )
        table.add_row(*cells, *([f"{row.missed.get(largest, 0):,}"] if shown else []))
    return table


def _by_time(seen: "pb.MissesResponse") -> Table:
    rows = []
    last = int(seen.by_minute[-1].name)
    for row in seen.by_minute:
        ago = (last - int(row.name) + seen.ago_s) / 60
        rows.append(type(row)())
        rows[-1].CopyFrom(row)
        rows[-1].name = f"{ago:.0f} min ago" if ago >= 1 else "now"
    return _by_rows("minute", rows, seen.largest)


_BY: "dict[By, Callable[[pb.MissesResponse], Table]]" = {
    By.CLASS: _by_class,
    By.WORKER: lambda seen: _by_rows("worker", seen.by_worker, seen.largest),
    By.TENANT: lambda seen: _by_rows("tenant", seen.by_tenant, seen.largest),
    By.SESSION: lambda seen: _by_rows("session", seen.by_session, seen.largest),
    By.TIME: _by_time,
}


def _column(one: "pb.ShadowFigures", number: int) -> WorkerColumn:
    names = {0: f"{cell(one.policy)}, live", 1: f"{cell(one.policy)}, shadow"}
    cells = (
        str(one.requests),
        "" if one.is_live else share(one.flips, one.requests),
        share(one.hit_rate, 1) if one.requests else "-",
        "" if one.is_live else _points(one),
        f"{one.ttft_ms:.0f}" if one.requests else "-",
        "" if one.is_live else _times(one),
    )
    return WorkerColumn(names.get(number, cell(one.policy)), cells)


def _words(seen: "pb.ShadowsResponse") -> list[str]:
    own = seen.figures[1]
    lines = ["nothing was compared yet"]
    if own.HasField("ttft_times"):
        lines = [
            f"Others stand beside the shadow of {cell(seen.live_policy)}; that one beside what"
            f" really happened, {_times(own)}: that is the error of the method."
        ]
    behind = f"{seen.behind_s:.0f} s behind the router"
    if seen.restarts:
        behind += f"; began anew {seen.restarts} times, with empty caches"
    lines.append(behind)
    if seen.batches_lost:
        lines.append(f"too slow for the router {seen.batches_lost} times: name fewer policies")
    lines += [
        f"the shadow of {cell(one.policy)} has ended: {cell(one.error)}"
        for one in seen.figures
        if one.error
    ]
    return lines


def _points(one: "pb.ShadowFigures") -> str:
    if not one.HasField("hit_rate_more"):
        return "-"
    more = one.hit_rate_more
    margin = f" ±{100 * more.margin:.1f}" if more.HasField("margin") else ""
    return f"{100 * more.value:+.1f}{margin}"


def _times(one: "pb.ShadowFigures") -> str:
    if not one.HasField("ttft_times"):
        return "-"
    times = one.ttft_times
    margin = f" ±{times.margin:.2f}" if times.HasField("margin") else ""
    return f"x{times.value:.2f}{margin}"
