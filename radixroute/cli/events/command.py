"""The commands `events record`, `events show` and `events replay`: event streams kept for later.

Owns the group, its options and which of them go together. What a recording says is the business of
`events.recording`, how it looks that of `tables`.
"""

from pathlib import Path
from typing import Annotated

import typer

from radixroute.cli.console import JsonOption
from radixroute.cli.context import config_for
from radixroute.cli.events.recording_file import open_recording, parsed_point, tell_ending
from radixroute.cli.events.recording_run import record_streams, require_free, show_capture
from radixroute.cli.events.tables import (
    show_changes,
    show_contents,
    show_entries,
    show_rebuilt_json,
)
from radixroute.cli.router_address import NameOption, RouterOption, find_router, require_address
from radixroute.errors import BadInput

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The recording.")]
POINT_HELP = "Seconds (12.5), a record's number (r120) or end."

events = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Record the workers' event streams; show a recording and rebuild the index from it.\n\n"
    "Example: [bold]radixroute events record run.rrev --seconds 10[/]",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    events.command()(record)
    events.command("show")(show_recording)
    events.command()(replay)
    app.add_typer(events, name="events")


def record(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    file: FileArgument,
    *,
    worker: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A worker to record; may be repeated."),
    ] = None,
    vllm: Annotated[
        list[str] | None,
        typer.Option(metavar="tcp://HOST:PORT", help="The KV events of a vLLM or SGLang engine."),
    ] = None,
    vllm_replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Its replay socket, one for each --vllm, or none. [default: the next port]",
        ),
    ] = None,
    block_size: Annotated[
        int,
        typer.Option(min=0, metavar="TOKENS", help="Of the engines' blocks. [default: as stored]"),
    ] = 0,
    router: RouterOption = None,
    name: NameOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Stop by itself, so long after all snapshots arrived."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Record live event streams into a file, from a snapshot on, until Ctrl-C.

    Without --worker and --vllm: all workers of the router. What vLLM sends holds token ids; it
    begins with what the engine's replay socket still keeps, and what was missed is asked for there.

    Example: [bold]radixroute events record run.rrev --seconds 10[/]
    """
    workers, engines = worker or [], vllm or []
    if (router is not None or name is not None) and (workers or engines):
        raise BadInput("give --router or --name, or --worker and --vllm; not both")
    for address in workers:
        require_address("worker", address)
    for endpoint in (*engines, *(one for one in vllm_replay or () if one != "none")):
        require_address("engine", endpoint.removeprefix("tcp://"))
    from radixroute.client import RouterClient
    from radixroute.live.event_sources import SourceFinder, engine_endpoints
    from radixroute.live.worker_asker import WorkerAsker

    config = config_for(ctx, router, name)
    own = None
    if not (workers or engines):
        client = config.client
        own = RouterClient(find_router(config), api_key=client.api_key, ca_file=client.ca_file)
    endpoints = engine_endpoints(engines, vllm_replay)
    require_free(file, force)
    finder = SourceFinder(
        workers=workers,
        vllm=endpoints,
        router=own,
        asker=WorkerAsker(config.cluster.router),
        block_size=block_size,
    )
    try:
        capture = record_streams(file, finder, seconds, force)
    finally:
        finder.close()
    show_capture(file, capture)


def show_recording(
    file: FileArgument,
    *,
    source: Annotated[
        str | None, typer.Option(metavar="WORKER[/RANK]", help="Only what this one sent.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="POINT", help=POINT_HELP)] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="POINT", help=POINT_HELP)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one document a line, with every key.")
    ] = False,
) -> None:
    """Print what a recording says, record by record; gaps and epoch changes are marked.

    Example: [bold]radixroute events show run.rrev --source worker-0 --from 2 --to r500[/]
    """
    start, stop = parsed_point(first or "r0"), parsed_point(last or "end")
    with open_recording(file) as reader:
        show_entries(reader, source, start, stop, as_json=as_json)
        tell_ending(file, reader)


def replay(
    file: FileArgument,
    *,
    at: Annotated[str, typer.Option(metavar="POINT", help=POINT_HELP)] = "end",
    diff: Annotated[
        str | None, typer.Option(metavar="POINT", help="What changed from --at to there.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="With --diff: the block keys that came and went.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the index as a router had it at a point of a recording; or compare two points.

    Example: [bold]radixroute events replay run.rrev --at 2.5 --diff end[/]
    """
    if keys and diff is None:
        raise BadInput("--keys goes with --diff POINT")
    points = [parsed_point(one) for one in (at, diff) if one is not None]
    with open_recording(file) as reader:
        from radixroute.events.errors import PointBeyondEnd
        from radixroute.events.recording.recorded import rebuild

        try:
            found = rebuild(reader, points)
        except PointBeyondEnd as error:
            raise BadInput(f"{file}: {error}") from error
        tell_ending(file, reader)
    if as_json:
        show_rebuilt_json(found, with_keys=keys)
        return
    show_contents(found[0])
    if diff is not None:
        show_changes(found[0], found[1], with_keys=keys)
