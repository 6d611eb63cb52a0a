"""Options of `replay TRACE`: which go together, and the values behind them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.calibration.fitting import Way
    from radixroute.replay.fleet.timing import Timing
    from radixroute.replay.traces.trace import Trace

_Number = TypeVar("_Number", int, float)

# 16,384 blocks of 64: what some 128 GiB are to a model whose token takes 128 KiB (Llama 3.1 8B).
DEFAULT_KV_TOKENS = 1 << 20
KVTokensOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Memory of each worker, in tokens. Default: 1,048,576.", show_default=False),
]
BlockSizeOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Tokens of an engine block. Default: the trace's own, cut to 64 or fewer.",
        show_default=False,
    ),
]


def is_given(ctx: typer.Context, name: str) -> bool:
    """By whoever typed the command: not its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


# What a cluster says of itself, and what makes no sense without one.
_TOLD_BY_CLUSTER = (
    *("workers", "kv_tokens", "kv_blocks", "block_size"),
    *("max_num_batched_tokens", "max_num_seqs"),
)
_ONLY_LIVE = ("skip_long", "calibrate")
# What nobody does to a cluster that serves.
_ONLY_SIMULATED = ("disturb", "routers", "routers_by")


def check_live_options(ctx: typer.Context, live: str | None) -> None:
    """Raises `BadInput` for options that do not go together."""
    for name in _TOLD_BY_CLUSTER if live is not None else _ONLY_LIVE:
        if is_given(ctx, name):
            option = "--" + name.replace("_", "-")
            why = "the cluster says that" if live is not None else "it goes with --live HOST:PORT"
            raise BadInput(f"{option}: {why}")
    for name in _ONLY_SIMULATED if live is not None else ():
        if is_given(ctx, name):
            option = "--" + name.replace("_", "-")
            raise BadInput(f"{option}: it is for simulated fleets alone; leave out --live")
    if is_given(ctx, "calibrate") and is_given(ctx, "timing"):
        raise BadInput("--calibrate makes the timing: leave out --timing")


def check_capacity(kv_tokens: int | None, kv_blocks: int | None) -> None:
    """Raises `BadInput` for a memory that is said twice."""
    if kv_tokens is not None and kv_blocks is not None:
        raise BadInput("--kv-tokens and --kv-blocks say the same: give one of them")


def timing_of(name: str, path: Path, *, is_coming: bool) -> "tuple[Timing, Way]":
    """Of the name given, and what lies beside its steps; any, if it is about to be measured."""
    from radixroute.replay.calibration.calibration_file import read_calibration
    from radixroute.replay.calibration.fitting import Way
    from radixroute.replay.errors import BadCalibration
    from radixroute.replay.fleet.timing import CALIBRATED, timing_named

    if is_coming or name != CALIBRATED:
        return timing_named(name), Way()
    try:
        found = read_calibration(path.read_bytes())
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}; --live HOST:PORT --calibrate writes one"
        ) from error
    except BadCalibration as error:
        raise BadInput(f"{path}: {error}") from error
    return found.timing, found.way


def fitted(
    trace: "Trace", scale_lengths: float | None, max_output: int | None, block_size: int
) -> "Trace":
    """The trace with the lengths asked for. `block_size`: of the simulated engine."""
    from radixroute.replay.traces.reshape import capped, resized

    if scale_lengths is not None:
        trace = resized(trace, scale_lengths, block_size)
    return trace if max_output is None else capped(trace, max_output)


def shaped(trace: "Trace", *, spread: bool, seed: int, limit: int | None) -> "Trace":
    from radixroute.replay.traces.reshape import cut
    from radixroute.replay.traces.reshape import spread as spread_out

    trace = trace if limit is None else cut(trace, limit)
    return spread_out(trace, seed) if spread else trace


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str, kind: Callable[[str], _Number]) -> list[_Number]:
    try:
        return [kind(word) for word in words(text)]
    except ValueError:
        raise BadInput(f"{option} {text}: write numbers with commas between them") from None
