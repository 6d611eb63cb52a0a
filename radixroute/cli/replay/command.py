"""The commands `replay ...`: workloads and traces, simulated or on a running cluster.

Owns the group, and its rule for a default: words that name no command of the group go to the one
called `run`, where there is one, so that `radixroute replay FILE` needs no word more.
"""

import difflib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from radixroute.cli.console import cell, show, tell
from radixroute.cli.policies import NamesPolicies
from radixroute.cli.replay.capture import capture
from radixroute.cli.replay.diff import diff
from radixroute.cli.replay.options import (
    DEFAULT_KV_TOKENS,
    BlockSizeOption,
    KVTokensOption,
    check_capacity,
    check_live_options,
    fitted,
    is_given,
    numbers,
    shaped,
    timing_of,
    words,
)
from radixroute.cli.replay.plan import register as register_plan
from radixroute.cli.replay.report import progress_bar, show_report, write_report
from radixroute.cli.replay.synth import synth
from radixroute.cli.replay.trace_file import (
    ChatRateOption,
    DefaultOutputOption,
    FormatOption,
    SessionRowsOption,
    SkipBadOption,
    ThinkTimeOption,
    TimeUnitOption,
    TokenizerOption,
    TraceArgument,
    TraceBlockOption,
    meant_by,
    read_trace_file,
    show_understood,
)
from radixroute.cli.reported_errors import reported_replay_errors
from radixroute.cli.router_address import live_router
from radixroute.errors import BadInput

DEFAULT_COMMAND = "run"
_GROUP_OPTIONS = ("--help",)


class ReplayGroup(TyperGroup):
    """A group with a default command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_own = not args or args[0] in self.commands or args[0] in _GROUP_OPTIONS
        if DEFAULT_COMMAND in self.commands and not is_own:
            self._refuse_typing_error(args[0])
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["TRACE", "[OPTIONS]", "|", "COMMAND", "[ARGS]..."]

    def _refuse_typing_error(self, word: str) -> None:
        """What is no file and nearly a command was meant as one."""
        near = difflib.get_close_matches(word, self.commands, n=1)
        if near and not Path(word).exists():
            raise BadInput(
                f"there is no file {word} and no command; did you mean `replay {near[0]}`?"
            )


replay_app = typer.Typer(
    cls=ReplayGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Replay traces, simulated or on a running cluster, and make workloads for that.\n\n"
    "`radixroute replay TRACE` is `radixroute replay run TRACE`.",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    replay_app.command()(capture)
    replay_app.command(cls=NamesPolicies)(run)
    register_plan(replay_app)
    for command in (diff, synth):
        replay_app.command()(command)
    app.add_typer(replay_app, name="replay")


@replay_app.callback()
def _group() -> None:
    """Keeps a group of one command a group."""


def run(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    file: TraceArgument,
    *,
    workers: Annotated[str, typer.Option(help="Fleet sizes, with commas.")] = "8",
    policy: Annotated[str, typer.Option(help="Policies, with commas; all: each of them.")] = "all",
    speed: Annotated[str, typer.Option(help="Arrivals so many times faster, with commas.")] = "1",
    seed: Annotated[int, typer.Option(help="Of ties and random choices.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the report; made if missing.")
    ] = None,
    format_name: FormatOption = None,
    trace_block_size: TraceBlockOption = None,
    time_unit: TimeUnitOption = None,
    default_output: DefaultOutputOption = None,
    session_rows: SessionRowsOption = "auto",
    skip_bad: SkipBadOption = False,
    tokenizer: TokenizerOption = None,
    chat_rate: ChatRateOption = 1.0,
    think_time: ThinkTimeOption = 10.0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many requests.")] = None,
    spread: Annotated[
        bool, typer.Option(help="Spread arrivals that share a timestamp up to the next one.")
    ] = False,
    kv_tokens: KVTokensOption = None,
    kv_blocks: Annotated[
        int | None, typer.Option(help="The same in engine blocks.", show_default=False)
    ] = None,
    block_size: BlockSizeOption = None,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens of a step.")] = 8192,
    max_num_seqs: Annotated[int, typer.Option(help="Requests that run on a worker.")] = 256,
    timing: Annotated[str, typer.Option(help="polynomial, linear or calibrated.")] = "polynomial",
    calibration: Annotated[
        Path, typer.Option(help="What calibrated reads, and --calibrate writes.")
    ] = Path("calibration.json"),
    slow_worker: Annotated[
        float, typer.Option(help="One worker takes so many times longer.")
    ] = 1.0,
    disturb: Annotated[
        str,
        typer.Option(
            metavar="WORKER:WHAT@SECONDS,...",
            help="In mid-run a worker slows down (x3) or recovers (x1), joins, drains or dies.",
        ),
    ] = "",
    routers: Annotated[
        int, typer.Option(help="Routers over one fleet; none knows what the others decide.")
    ] = 1,
    routers_by: Annotated[
        str,
        typer.Option(help="Which router a request comes to: round_robin, or hash of its session."),
    ] = "round_robin",
    eviction: Annotated[
        str, typer.Option(help="What leaves a full cache: lru, slru, lfu or cost.")
    ] = "lru",
    session_ends: Annotated[
        float, typer.Option(help="Share of sessions, 0 to 1, whose last request says that it is.")
    ] = 0.0,
    event_delay_ms: Annotated[float, typer.Option(help="Until cache events are heard.")] = 0.0,
    dispatch_ms: Annotated[float, typer.Option(help="Until a request is at its worker.")] = 0.0,
    scale_lengths: Annotated[
        float | None, typer.Option(help="All lengths times this, to whole engine blocks.")
    ] = None,
    max_output: Annotated[int | None, typer.Option(help="No output longer than this.")] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A router, or a cluster's name here: replay on it, and simulated beside it.",
        ),
    ] = None,
    skip_long: Annotated[
        bool, typer.Option(help="With --live: leave out what its model is too small for.")
    ] = False,
    calibrate: Annotated[
        bool, typer.Option(help="With --live: measure its engine first, and simulate that.")
    ] = False,
) -> None:
    """Replay a trace against simulated fleets: every policy, the bounds, and what was missed.

    With --live also against a running cluster, whose shape and policy the simulation then takes.

    Example: [bold]radixroute replay trace.jsonl.gz --workers 8 --speed 1,4 -o report[/]
    """
    from radixroute.replay.changes import read_changes
    from radixroute.replay.lab import LabSettings, replay_all
    from radixroute.replay.scenario import Conditions, Routers
    from radixroute.router.errors import UnknownPolicy
    from radixroute.router.policy.registry import policy_named

    live = None if live is None else live_router(ctx, live)
    check_live_options(ctx, live)
    check_capacity(kv_tokens, kv_blocks)
    with reported_replay_errors():
        reading = read_trace_file(file, meant_by(ctx))
        trace = shaped(reading.trace, spread=spread, seed=seed, limit=limit)
        used, way = timing_of(timing, calibration, is_coming=calibrate)
        try:
            settings = LabSettings(
                policies=tuple(words(policy)),
                workers=tuple(numbers("--workers", workers, int)),
                speeds=tuple(numbers("--speed", speed, float)),
                seed=seed,
                kv_blocks=kv_blocks,
                block_size=block_size,
                kv_tokens=DEFAULT_KV_TOKENS if kv_tokens is None else kv_tokens,
                max_num_batched_tokens=max_num_batched_tokens,
                max_num_seqs=max_num_seqs,
                timing=used,
                slowness=(slow_worker,) if slow_worker != 1.0 else (),
                eviction_policy=eviction,
                session_ends=session_ends,
                conditions=way.onto(Conditions(event_delay_ms, dispatch_ms)),
                changes=read_changes(disturb),
                routers=Routers(routers, routers_by),
            )
            for name in settings.chosen if live is not None else ():
                policy_named(name)  # a router serves by it
        except UnknownPolicy as error:
            raise BadInput(f"--policy: {error}") from error
        command = shlex.join(["radixroute", *sys.argv[1:]])
        if live is None:
            settings = settings.sized_for(trace)  # before lengths change: blocks then follow them
            engine_block, _ = settings.sizes(trace)
            trace = fitted(trace, scale_lengths, max_output, engine_block)
            show_understood(reading, trace, engine_block)
            with progress_bar() as tell_progress:
                report = replay_all(trace, settings, tell_progress, command)
        else:
            from radixroute.live.cluster import Fitting
            from radixroute.live.lab import LiveOptions, replay_beside
            from radixroute.replay.fleet.timing import CALIBRATED

            options = LiveOptions(
                address=live,
                fitting=Fitting(scale_lengths, max_output, skip_long),
                own_policy=not is_given(ctx, "policy"),
                calibrates=calibrate,
            )
            with progress_bar() as tell_progress:
                outcome = replay_beside(
                    trace, settings, options, tell_progress, command,
                    on_answer=lambda: show_understood(reading, trace, None),
                )  # fmt: skip
            report = outcome.report
            for note in outcome.notes:
                tell(note)
            if not calibrate and timing != CALIBRATED:
                tell(
                    f"the simulation beside it runs on {timing} timing, not on this cluster's: "
                    "--calibrate measures that first"
                )
            if outcome.calibration is not None:
                _write_text(calibration, outcome.calibration)
    show_report(report)
    if output is not None:
        write_report(report, output)


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    show(f"calibration: [bold]{cell(path)}[/]")
