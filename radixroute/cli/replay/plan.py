"""The command `replay plan`: workers, memory and policy that meet goals on a trace."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from radixroute.cli.console import JsonOption, show, show_json, show_table, table_of, tell
from radixroute.cli.kv.model import kv_of
from radixroute.cli.policies import NamesPolicies
from radixroute.cli.replay.options import BlockSizeOption, numbers, shaped, timing_of, words
from radixroute.cli.replay.report import progress_bar
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
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.plan import Fleet, Goals, Plan
    from radixroute.replay.traces.trace import Trace

_SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class Memory:
    """What KV tokens are in bytes, for one model."""

    bytes_per_token: int

    def text(self, tokens: int) -> str:
        return f"{tokens * self.bytes_per_token / 2**30:,.1f}"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=NamesPolicies)(plan)


def plan(  # noqa: PLR0913 - every parameter is an option of the command line
    ctx: typer.Context,
    file: TraceArgument,
    *,
    ttft_ms: Annotated[
        float | None, typer.Option(help="Goal: time to first token.", show_default=False)
    ] = None,
    itl_ms: Annotated[
        float | None, typer.Option(help="Goal: time between tokens.", show_default=False)
    ] = None,
    ttft_at: Annotated[
        str, typer.Option(metavar="mean|p50|p90|p99", help="Whose time to first token.")
    ] = "p90",
    itl_at: Annotated[
        str, typer.Option(metavar="mean|p99", help="Whose time between tokens.")
    ] = "mean",
    policy: Annotated[
        str, typer.Option(help="Policies, with commas.")
    ] = "radix,dynamo_agentic,round_robin",
    kv_tokens: Annotated[
        str,
        typer.Option(
            help="Memories of a worker in tokens, with commas; 512k and 2m are understood."
            " Default: some that suit the trace.",
            show_default=False,
        ),
    ] = "",
    max_workers: Annotated[int, typer.Option(help="No fleet is larger.")] = 64,
    model: Annotated[
        Path | None,
        typer.Option(help="A model's folder or config.json: memory in GiB, too."),
    ] = None,
    kv_dtype: Annotated[str, typer.Option(help="With --model: in which KV is kept.")] = "auto",
    speed: Annotated[float, typer.Option(help="Arrivals come so many times faster.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of ties and random choices.")] = 0,
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
    block_size: BlockSizeOption = None,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens of a step.")] = 8192,
    max_num_seqs: Annotated[int, typer.Option(help="Requests that run on a worker.")] = 256,
    timing: Annotated[str, typer.Option(help="polynomial, linear or calibrated.")] = "polynomial",
    calibration: Annotated[Path, typer.Option(help="What calibrated reads.")] = Path(
        "calibration.json"
    ),
    eviction: Annotated[
        str, typer.Option(help="What leaves a full cache: lru, slru, lfu or cost.")
    ] = "lru",
    as_json: JsonOption = False,
) -> None:
    """Say how many workers, how much KV memory and which policy meet goals on a trace.

    For each policy and memory the least workers that meet them are searched for in the simulator.

    Example: [bold]radixroute replay plan trace.jsonl.gz --ttft-ms 1000 --itl-ms 50[/]
    """
    from radixroute.replay.plan import Goals, Space
    from radixroute.replay.plan import plan as search
    from radixroute.replay.scenario import Conditions
    from radixroute.router.errors import UnknownPolicy

    memory = None if model is None else _memory(model, kv_dtype)
    with reported_replay_errors():
        goals = Goals(ttft_ms, itl_ms, ttft_at, itl_at)
        used, way = timing_of(timing, calibration, is_coming=False)
        try:
            space = Space(
                policies=tuple(dict.fromkeys(words(policy))),
                kv_tokens=tuple(_tokens(word) for word in words(kv_tokens)),
                max_workers=max_workers,
                block_size=block_size,
                max_num_batched_tokens=max_num_batched_tokens,
                max_num_seqs=max_num_seqs,
                timing=used,
                conditions=way.onto(Conditions()),
                speed=speed,
                seed=seed,
                eviction_policy=eviction,
            )
        except UnknownPolicy as error:
            raise BadInput(f"--policy: {error}") from error
        reading = read_trace_file(file, meant_by(ctx))
        trace = shaped(reading.trace, spread=spread, seed=seed, limit=limit)
        if not as_json:
            show_understood(reading, trace, block_size)
        else:
            for doubt in reading.doubts:
                tell(f"look: {doubt}")
        with progress_bar() as tell_progress:
            found = search(trace, goals, space, tell_progress)
    if as_json:
        show_json(_as_json(found, trace, memory))
    else:
        _show(found, memory)


def _show(found: "Plan", memory: Memory | None) -> None:
    goals, frontier = found.goals, found.frontier
    headings = ["policy", "KV tokens each", "workers", "KV tokens in all"]
    headings += [] if memory is None else ["GiB each", "GiB in all"]
    headings += [f"TTFT {goals.ttft_at}", f"ITL {goals.itl_at}", "reuse"]
    table = table_of(
        f"Fewest workers for {_goals_text(goals)}; times in ms; * frontier",
        headings,
        left=("policy",),
    )
    for fleet in found.fleets:
        mark = "*" if fleet in frontier else ""
        workers = f"{fleet.workers}{mark}" if fleet.meets else f"> {fleet.workers}"
        total = f"{fleet.total_kv_tokens:,}" if fleet.meets else "-"
        cells = [fleet.policy, f"{fleet.kv_tokens:,}", workers, total]
        if memory is not None:
            in_all = memory.text(fleet.total_kv_tokens) if fleet.meets else "-"
            cells += [memory.text(fleet.kv_tokens), in_all]
        figures = fleet.figures
        cells += [f"{goals.ttft_of(figures):,.0f}", f"{goals.itl_of(figures):.1f}"]
        table.add_row(*cells, f"{figures.reuse:.4f}")
    show_table(table)
    for line in _advice(found, memory):
        show(escape(line))


def _advice(found: "Plan", memory: Memory | None) -> list[str]:
    frontier, goals = found.frontier, found.goals
    lines = []
    if not frontier:
        most = max(fleet.workers for fleet in found.fleets)
        lines.append(
            f"No fleet of {most} workers or fewer keeps to {_goals_text(goals)}: raise"
            " --max-workers or the goals."
        )
    else:
        lines.append(f"Fewest workers: {_fleet_text(frontier[0], found, memory)}")
        lines += [f"Less memory: {_fleet_text(one, found, memory)}" for one in frontier[1:]]
        lines.append("On the frontier: no other fleet needs as few workers and as little memory.")
    if found.too_small:
        sizes = ", ".join(f"{size:,}" for size in found.too_small)
        lines.append(f"Too small for the longest request: {sizes} KV tokens.")
    lines.append(
        f"{found.runs} runs simulated, blocks of {found.block_size} tokens; decoding as a machine"
        f" of {found.decode_kv_tokens:,} KV tokens does it."
    )
    return lines


def _fleet_text(fleet: "Fleet", found: "Plan", memory: Memory | None) -> str:
    goals = found.goals
    size = "" if memory is None else f" ({memory.text(fleet.kv_tokens)} GiB)"
    others = [
        f"{other.policy} needs {'' if other.meets else 'more than '}{other.workers}"
        for other in found.fleets
        if other.kv_tokens == fleet.kv_tokens and other.policy != fleet.policy
    ]
    beside = f"; {', '.join(others)}" if others else ""
    s = "s" * (fleet.workers != 1)
    return (
        f"{fleet.workers} worker{s} of {fleet.kv_tokens:,} KV tokens{size} with {fleet.policy}:"
        f" TTFT {goals.ttft_at} {goals.ttft_of(fleet.figures):,.0f} ms,"
        f" ITL {goals.itl_at} {goals.itl_of(fleet.figures):.1f} ms{beside}."
    )


def _goals_text(goals: "Goals") -> str:
    said = []
    if goals.ttft_ms is not None:
        said.append(f"TTFT {goals.ttft_at} <= {goals.ttft_ms:g} ms")
    if goals.itl_ms is not None:
        said.append(f"ITL {goals.itl_at} <= {goals.itl_ms:g} ms")
    return " and ".join(said)


def _as_json(found: "Plan", trace: "Trace", memory: Memory | None) -> dict[str, Any]:
    goals, frontier = found.goals, found.frontier
    return {
        "trace": {"name": trace.name, "requests": len(trace), "digest": trace.digest},
        "goals": {
            "ttft_ms": goals.ttft_ms,
            "ttft_at": goals.ttft_at,
            "itl_ms": goals.itl_ms,
            "itl_at": goals.itl_at,
        },
        "block_size": found.block_size,
        "decode_kv_tokens": found.decode_kv_tokens,
        "bytes_per_token": None if memory is None else memory.bytes_per_token,
        "runs": found.runs,
        "too_small_kv_tokens": list(found.too_small),
        "fleets": [
            {
                "policy": fleet.policy,
                "kv_tokens": fleet.kv_tokens,
                "workers": fleet.workers,
                "meets": fleet.meets,
                "is_on_frontier": fleet in frontier,
                "ttft_ms": _number(goals.ttft_of(fleet.figures)),
                "itl_ms": _number(goals.itl_of(fleet.figures)),
                "reuse": round(fleet.figures.reuse, 6),
            }
            for fleet in found.fleets
        ],
    }


def _number(value: float) -> float | None:
    return None if value != value else round(value, 3)  # noqa: PLR0124 - JSON has no NaN


def _tokens(word: str) -> int:
    factor = _SUFFIXES.get(word[-1:].lower(), 1)
    (number,) = numbers("--kv-tokens", word if factor == 1 else word[:-1], float) or [0.0]
    tokens = round(number * factor)
    if tokens < 1:
        raise BadInput(f"--kv-tokens {word}: write numbers of tokens above 0, e.g. 512k,2m")
    return tokens


def _memory(model: Path, dtype: str) -> Memory:
    shape, kv_format = kv_of(model, dtype, "--kv-dtype")
    return Memory(sum(layout.bytes_per_token(kv_format) for layout in shape.layouts))
