"""The commands that show what a router's onlookers make of its work: `shadow`."""

from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.by_worker import WorkerColumn, show_by_worker
from radixroute.cli.console import (
    JsonOption,
    cell,
    json_values,
    share,
    show,
    show_json,
    show_wrapped,
)
from radixroute.cli.inspect import router_client
from radixroute.cli.router_address import NameOption, RouterOption

if TYPE_CHECKING:
    from radixroute.protos import radixroute_pb2 as pb


_ROWS = ("requests", "sent elsewhere", "hit rate", "more hits (points)", "TTFT (ms)", "TTFT")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(shadow)


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
