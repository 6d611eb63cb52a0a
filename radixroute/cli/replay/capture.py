"""The command `replay capture`: a router's request log becomes a trace; no text in it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radixroute.cli.console import cell, show, tell
from radixroute.cli.context import config_for
from radixroute.cli.replay.trace_file import write_trace
from radixroute.cli.router_address import NameOption, RouterOption, find_router
from radixroute.errors import BadInput, FrontDoorError

if TYPE_CHECKING:
    from radixroute.live.request_log_reader import RequestLogReader

POLL_S = 0.5


def capture(
    ctx: typer.Context,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The trace to write; .gz compresses it.")
    ],
    router: RouterOption = None,
    name: NameOption = None,
    seconds: Annotated[
        float,
        typer.Option(min=0.0, help="Go on for so long; Ctrl-C ends it. 0: what the log has now."),
    ] = 0.0,
) -> None:
    """Make a trace of the requests that a running router served: when, how long, which prefixes.

    The router keeps the last ones in a bounded log; what it no longer had is told.

    Example: [bold]radixroute replay capture -o today.jsonl.gz --seconds 60[/]
    """
    from radixroute.client import RouterClient
    from radixroute.live.request_log_reader import RequestLogReader, captured
    from radixroute.live.stop_flag import stop_flag
    from radixroute.protos import radixroute_pb2 as pb
    from radixroute.replay.errors import BadTrace
    from radixroute.replay.traces.captured import captured_trace

    reader, entries = RequestLogReader(), list[pb.EndedRequest]()
    config = config_for(ctx, router, name)
    ends = time.monotonic() + seconds
    with (
        RouterClient(
            find_router(config), api_key=config.client.api_key, ca_file=config.client.ca_file
        ) as client,
        stop_flag() as is_stopped,
    ):
        while True:
            is_last = time.monotonic() >= ends or is_stopped()
            try:
                entries += reader.take(client.request_log(reader.after))
            except FrontDoorError as error:
                if not entries:
                    raise
                tell(f"{error}; what was captured until then is kept")
                break
            if reader.is_behind:
                continue
            if is_last:
                break
            time.sleep(min(POLL_S, max(0.0, ends - time.monotonic())))
    if not entries:
        raise BadInput("no request has ended at this router yet: there is nothing to capture")
    try:
        trace = captured_trace(list(captured(entries)), "captured")
    except BadTrace as error:
        raise BadInput(str(error)) from error
    write_trace(trace, output)
    show(
        f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens, blocks of"
        f" {trace.block_size}, digest {trace.digest}: [bold]{cell(output)}[/]"
    )
    _tell_faults(reader, [entry.outcome for entry in entries])


def _tell_faults(reader: "RequestLogReader", outcomes: list[str]) -> None:
    if reader.missed:
        tell(
            f"{reader.missed:,} earlier requests had left the router's log: raise its"
            " request_log_bytes, or capture while it runs (--seconds)"
        )
    if reader.restarts:
        tell(f"the router restarted {reader.restarts} times: requests of before may be missing")
    if reader.running:
        tell(f"{reader.running:,} requests still ran and are not in the trace")
    cut = sum(outcome not in ("stop", "length") for outcome in outcomes)
    if cut:
        tell(f"{cut:,} requests were aborted, failed or leased: their outputs are as far as known")
