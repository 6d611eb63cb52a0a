"""The commands that look at a running router: `workers`, `hits`, `explain`. They change nothing."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from radixroute.cli.console import (
    JsonOption,
    cell,
    json_values,
    share,
    show,
    show_json,
    show_wrapped,
)
from radixroute.cli.context import config_for
from radixroute.cli.router.by_worker import WorkerColumn, show_by_worker
from radixroute.cli.router_address import NameOption, RouterOption, find_router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radixroute.client import RouterClient
    from radixroute.protos import radixroute_pb2 as pb

CHOSEN = "[bold green]\u2192[/]"
_WORKER_ROWS = (
    # Differing: of its reports of cached tokens, those that its events contradict.
    *("state", "events", "audit", "differing", "in flight", "queued tokens", "KV blocks"),
    *("indexed", "deaths"),
    # While requests waited: a plan wanted it so, none did, and with one on its way.
    *("idle planned (ms)", "idle avoidable (ms)", "idle starting (ms)", "address"),
)
_HITS_ROWS = (
    *("requests", "prompt tokens", "cached tokens", "hit rate", "predicted", "KV use"),
    *("in flight", "resumed", "recomputed tokens"),
)
_CANDIDATE_ROWS = ("overlap (blocks)", "of these expected", "in flight")
_SERVING = ("live", "suspect", "draining")
_COMING = ("starting", "restarting")
_STATE_COLOURS = {
    "live": "green",
    "suspect": "yellow",
    "stale": "yellow",
    "drifted": "yellow",
    "dead": "red",
    "refused": "red",
    "starting": "yellow",
    "restarting": "yellow",
}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(workers)
    app.command()(hits)
    app.command()(explain)


def workers(
    ctx: typer.Context,
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the workers: state, event stream, load and KV pool.

    Example: [bold]radixroute workers --router 127.0.0.1:50051[/]
    """
    with router_client(ctx, router, name) as client:
        answer = client.list_workers()
    if as_json:
        show_json(json_values(answer))
        return
    show_by_worker(_WORKER_ROWS, [_worker_column(one) for one in answer.workers])
    for one in answer.workers:
        if one.reason:
            show_wrapped(f"{cell(one.worker_id)}: {cell(one.reason)}")
        if one.audit_reason:
            why = f"its cache counts for nothing: {cell(one.audit_reason)}"
            show_wrapped(f"{cell(one.worker_id)}: {why}")
    _show_adapters(answer.workers)
    if not answer.workers:
        show("no workers have joined yet")
    elif not any(one.state in _SERVING for one in answer.workers):
        coming = [one.worker_id for one in answer.workers if one.state in _COMING]
        what = f"; being brought up: {cell(', '.join(coming))}" if coming else ""
        show_wrapped(f"no worker serves now{what}")


def hits(
    ctx: typer.Context,
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show prefix hit rates by worker, as the engines report them.

    Example: [bold]radixroute hits --json[/]
    """
    with router_client(ctx, router, name) as client:
        answer = client.hit_rates()
    if as_json:
        rows = [_with_rate(one) for one in answer.workers]
        show_json({"workers": rows, "total": _with_rate(answer.total)})
        return
    columns = [WorkerColumn(cell(one.worker_id), _hits_cells(one)) for one in answer.workers]
    total = WorkerColumn("total", _hits_cells(answer.total), style="bold")
    show_by_worker(_HITS_ROWS, [*columns, total])


def explain(
    ctx: typer.Context,
    request_id: Annotated[
        str,
        typer.Argument(help="As `submit` prints it; its first digits do if no other begins so."),
    ],
    router: RouterOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a request went to its worker: the decision's terms for every worker.

    Example: [bold]radixroute explain 9f2c51d07a6e4b08b6a1c4de2f0c9e77[/]  (the id `submit` prints)
    """
    with router_client(ctx, router, name) as client:
        answer = client.explain(request_id)
    if as_json:
        show_json(json_values(answer))
        return
    show_wrapped(
        f"request [bold]{cell(answer.request_id)}[/]: policy {cell(answer.policy)}, "
        f"{answer.prompt_tokens} prompt tokens (blocks of {answer.block_size}), "
        f"{answer.cached_tokens} from cache, {cell(answer.outcome)}"
    )
    for attempt in answer.attempts:
        _show_attempt(attempt)
    if answer.believed:
        names = cell(", ".join(answer.believed))
        show_wrapped(f"believed, for nobody tells of it: the cache of {names}")


def _show_adapters(workers: "Sequence[pb.WorkerStatus]") -> None:
    """Workers that serve the same ones stand together."""
    names_by_adapters: dict[tuple[str, ...], list[str]] = {}
    for one in workers:
        if one.adapters:
            names_by_adapters.setdefault(tuple(one.adapters), []).append(one.worker_id)
    for adapters, names in names_by_adapters.items():
        show_wrapped(f"adapters of {cell(', '.join(names))}: {cell(', '.join(adapters))}")


def _show_attempt(attempt: "pb.AttemptDecision") -> None:
    """Why, then the terms of every worker: the chosen one first, then by what it would cost."""
    chosen = attempt.chosen or "nobody"
    show_wrapped(f"attempt {attempt.attempt}: [bold]{cell(chosen)}[/]. {cell(attempt.reason)}")
    eligible = [one for one in attempt.candidates if one.eligible]
    eligible.sort(key=lambda one: (one.worker_id != attempt.chosen, one.score))
    units = {term.name: term.unit for one in eligible for term in one.terms}
    terms = (f"{cell(name)} ({cell(unit)})" for name, unit in units.items())
    columns = [_candidate_column(one, attempt.chosen, list(units)) for one in eligible]
    show_by_worker((*_CANDIDATE_ROWS, *terms, "score"), columns)
    excluded: dict[str, list[str]] = {}
    for one in attempt.candidates:
        if not one.eligible:
            excluded.setdefault(one.excluded_because, []).append(one.worker_id)
    for because, names in excluded.items():
        show_wrapped(f"not eligible, {cell(because)}: {cell(', '.join(names))}")


def _candidate_column(
    one: "pb.CandidateTerms", chosen: str, names: "Sequence[str]"
) -> WorkerColumn:
    values = {term.name: f"{term.value:.2f}" for term in one.terms}
    name = cell(one.worker_id)
    return WorkerColumn(
        f"{CHOSEN} {name}" if one.worker_id == chosen else name,
        (
            str(one.overlap_blocks),
            str(one.expected_blocks),
            str(one.in_flight),
            *(values.get(name, "-") for name in names),
            f"{one.score:.2f}",
        ),
    )


def _worker_column(one: "pb.WorkerStatus") -> WorkerColumn:
    idle = (one.idle_planned_ms, one.idle_avoidable_ms, one.idle_starting_ms)
    return WorkerColumn(
        cell(one.worker_id),
        (
            _state(one.state),
            _state(one.stream_state),
            _state(one.audit),
            f"{one.audit_differing} / {one.audit_judged}",
            str(one.in_flight),
            str(one.queued_tokens),
            f"{one.kv_blocks_used} / {one.kv_blocks_total}",
            str(one.indexed_blocks),
            str(one.deaths),
            *(f"{ms:.0f}" for ms in idle),
            cell(one.address),
        ),
    )


def _hits_cells(one: "pb.WorkerHits") -> tuple[str, ...]:
    return (
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


def router_client(ctx: typer.Context, router: str | None, name: str | None) -> "RouterClient":
    """Of the router that is meant."""
    from radixroute.client import RouterClient

    config = config_for(ctx, router, name)
    return RouterClient(
        find_router(config), api_key=config.client.api_key, ca_file=config.client.ca_file
    )
