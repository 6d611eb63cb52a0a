"""The command that changes a running router's policy: `switch`."""

from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.console import JsonOption, cell, json_values, share, show_json, show_wrapped
from radixroute.cli.router.by_worker import WorkerColumn, show_by_worker
from radixroute.cli.router.inspect import router_client
from radixroute.cli.router_address import NameOption, RouterOption
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.protos import radixroute_pb2 as pb

_ROWS = ("share", "requests", "TTFT (ms)", "hit rate")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(switch)


def switch(  # noqa: PLR0913, PLR0917 - what may be typed
    ctx: typer.Context,
    policy: Annotated[str | None, typer.Argument(help="To be tried.")] = None,
    percent: Annotated[
        float, typer.Option("--share", help="Per cent of the sessions that go by it.")
    ] = 10.0,
    min_requests: Annotated[
        int, typer.Option(help="Of each side, before anything is concluded.")
    ] = 200,
    most_times: Annotated[
        float, typer.Option(help="Mean TTFT, times the usual policy's, that it steps back from.")
    ] = 1.1,
    least_hits: Annotated[
        float, typer.Option(help="Points of hit rate beside the usual policy's, at least.")
    ] = -2.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="What is tried is the usual policy from now on.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="All go by the usual policy again.")] = False,
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try another policy on a share of the sessions; it steps back by itself where it is worse.

    Example: [bold]radixroute switch dynamo_agentic --share 10[/]
    """
    if (policy is not None) + keep + back > 1:
        raise BadInput("give a policy to be tried, --keep or --back: one of them")
    from radixroute.protos import radixroute_pb2 as pb

    request = pb.SwitchRequest(keep=True) if keep else pb.SwitchRequest()
    if back:
        request = pb.SwitchRequest(back=True)
    if policy is not None:
        terms = pb.TrialTerms(
            policy=policy,
            share=percent / 100,
            min_requests=min_requests,
            most_times=most_times,
            least_hits=least_hits / 100,
        )
        request = pb.SwitchRequest(begin=terms)
    with router_client(ctx, router, name) as client:
        seen = client.switch(request)
    if as_json:
        show_json(json_values(seen))
    else:
        _show(seen)


def _show(seen: "pb.SwitchResponse") -> None:
    if not seen.HasField("terms"):
        show_wrapped(f"requests go by [bold]{cell(seen.usual)}[/]; nothing was tried yet")
        return
    tried, terms = cell(seen.terms.policy), seen.terms
    columns = [
        WorkerColumn(tried, _cells(seen.mine, terms.share)),
        WorkerColumn(cell(seen.beside), _cells(seen.others, 1 - terms.share)),
    ]
    show_by_worker(_ROWS, columns)
    if seen.is_running:
        show_wrapped(
            f"[bold]{tried}[/] is being tried; from {terms.min_requests} requests of each on it"
            f" steps back where first tokens surely take more than {terms.most_times:g} times as"
            f" long, or its hit rate is {-100 * terms.least_hits:g} points lower"
        )
    else:
        show_wrapped(f"[bold]{tried}[/] is tried no more: {cell(seen.why)}")
    show_wrapped(f"the usual policy is [bold]{cell(seen.usual)}[/]")


def _cells(side: "pb.TrialSide", of_all: float) -> tuple[str, ...]:
    asked = side.requests > 0
    return (
        share(of_all, 1),
        str(side.requests),
        f"{side.ttft_ms:.0f}" if asked else "-",
        share(side.hit_rate, 1) if asked else "-",
    )
