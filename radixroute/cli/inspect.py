"""The commands that look at a running router: `workers`, `hits`, `explain`. They change nothing."""

from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from radixroute.cli.console import (
    JsonOption,
    cell,
    json_values,
    share,
    show,
    show_json,
    show_table,
    table_of,
)
from radixroute.cli.context import config_for
from radixroute.cli.router_address import RouterOption, find_router

if TYPE_CHECKING:
    from radixroute.client import RouterClient
    from radixroute.protos import radixroute_pb2 as pb

CHOSEN = "[bold green]\u2192[/]"
_WORKER_COLUMNS = (
    *(
        "worker",
        "state",
        "events",
        "in flight",
        "queued",
        "KV blocks",
        "indexed",
        "deaths",
        "idle ms",
    ),
    *("address", "reason"),
)
_HITS_COLUMNS = (
    *("worker", "requests", "prompt tokens", "cached tokens", "hit rate", "predicted", "KV use"),
    *("in flight", "resumed", "recomputed tokens"),
)
_CANDIDATE_COLUMNS = ("", "worker", "overlap", "expected", "in flight")
_STATE_COLOURS = {"live": "green", "suspect": "yellow", "dead": "red", "stale": "yellow"}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(workers)
    app.command()(hits)
    app.command()(explain)


def workers(ctx: typer.Context, router: RouterOption = None, as_json: JsonOption = False) -> None:
    """List the workers: state, event stream, load and KV pool.

    Example: [bold]radixroute workers --router 127.0.0.1:50051[/]
    """
    with _client(ctx, router) as client:
        answer = client.list_workers()
    if as_json:
        show_json(json_values(answer))
        return
    table = table_of("", _WORKER_COLUMNS, left=("worker", "state", "events", "address", "reason"))
    for one in answer.workers:
        table.add_row(
            cell(one.worker_id),
            _state(one.state),
            _state(one.stream_state),
            str(one.in_flight),
            f"{one.queued_tokens} tokens",
            f"{one.kv_blocks_used} / {one.kv_blocks_total}",
            str(one.indexed_blocks),
            str(one.deaths),
            # Idle while requests waited: planned, avoidable, and with one on its way.
            f"{one.idle_planned_ms:.0f}/{one.idle_avoidable_ms:.0f}/{one.idle_starting_ms:.0f}",
            cell(one.address),
            cell(one.reason),
        )
    show_table(table)
    if not answer.workers:
        show("no workers have joined yet")


def hits(ctx: typer.Context, router: RouterOption = None, as_json: JsonOption = False) -> None:
    """Show prefix hit rates by worker, as the engines report them.

    Example: [bold]radixroute hits --json[/]
    """
    with _client(ctx, router) as client:
        answer = client.hit_rates()
    if as_json:
        rows = [_with_rate(one) for one in answer.workers]
        show_json({"workers": rows, "total": _with_rate(answer.total)})
        return
    table = table_of("", _HITS_COLUMNS, left=("worker",))
    for one in answer.workers:
        table.add_row(*_hits_row(cell(one.worker_id), one))
    table.add_section()
    table.add_row(*_hits_row("total", answer.total), style="bold")
    show_table(table)


def explain(
    ctx: typer.Context,
    request_id: str,
    router: RouterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a request went to its worker: the decision's terms for every worker.

    Example: [bold]radixroute explain 9f2c51d07a6e4b08b6a1c4de2f0c9e77[/]  (the id `submit` prints)
    """
    with _client(ctx, router) as client:
        answer = client.explain(request_id)
    if as_json:
        show_json(json_values(answer))
        return
    show(
        f"request [bold]{cell(answer.request_id)}[/]: policy {cell(answer.policy)}, "
        f"{answer.prompt_tokens} prompt tokens (blocks of {answer.block_size}), "
        f"{answer.cached_tokens} from cache, {cell(answer.outcome)}"
    )
    for attempt in answer.attempts:
        show_table(_attempt_table(attempt))


def _attempt_table(attempt: "pb.AttemptDecision") -> Table:
    units = {term.name: term.unit for one in attempt.candidates for term in one.terms}
    table = table_of(
        f"attempt {attempt.attempt}: {attempt.chosen or 'nobody'}; {attempt.reason}",
        (*_CANDIDATE_COLUMNS, *(f"{cell(n)} ({cell(u)})" for n, u in units.items()), "score"),
        left=("", "worker"),
    )
    for one in attempt.candidates:
        values = {term.name: f"{term.value:.2f}" for term in one.terms}
        table.add_row(
            CHOSEN if one.worker_id == attempt.chosen else "",
            cell(one.worker_id),
            str(one.overlap_blocks),
            str(one.expected_blocks),
            str(one.in_flight),
            *(values.get(name, "-") for name in units),
            f"{one.score:.2f}" if one.eligible else f"not eligible: {cell(one.excluded_because)}",
            style="" if one.eligible else "dim",
        )
    return table


def _hits_row(name: str, one: "pb.WorkerHits") -> tuple[str, ...]:
    return (
        name,
        str(one.requests),
        str(one.prompt_tokens),
        str(one.cached_tokens),
        share(one.cached_tokens, one.prompt_tokens),
        share(one.predicted_tokens, one.prompt_tokens),
        share(one.kv_use, 1),
        str(one.in_flight),
        str(one.resumed_requests),
        str(one.recomputed_tokens),
    )


def _with_rate(one: "pb.WorkerHits") -> dict[str, Any]:
    rate = one.cached_tokens / one.prompt_tokens if one.prompt_tokens else None
    return {**json_values(one), "hit_rate": rate}


def _state(name: str) -> str:
    colour = _STATE_COLOURS.get(name)
    return f"[{colour}]{cell(name)}[/]" if colour else cell(name)


def _client(ctx: typer.Context, router: str | None) -> "RouterClient":
    from radixroute.client import RouterClient

    return RouterClient(find_router(config_for(ctx, router)))
