"""The command `kv plan`: bytes of a model's KV, what fits, what sharing saves. Computes nothing
itself and reads one `config.json`: `worker.model.kv` has the arithmetic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radixroute.cli.console import JsonOption, share, show, show_json, show_table, table_of
from radixroute.cli.kv.model import kv_of
from radixroute.config_values import WrongType, from_text
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.worker.model.kv.plan import KVPlan, Sharing

MAX_BLOCK_SIZE = 1 << 20


def plan(  # noqa: PLR0913 - every parameter is an option of the command line
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model's folder or config.json.")
    ],
    *,
    memory: Annotated[str, typer.Option(help="For KV alone: without the weights.")] = "24GiB",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|float16|bfloat16|int8|fp8_e4m3",
            help="In which KV is kept; auto: the model's own.",
        ),
    ] = "auto",
    block_size: Annotated[int, typer.Option(min=1, max=MAX_BLOCK_SIZE, help="In tokens.")] = 16,
    length: Annotated[
        int, typer.Option(min=0, help="Tokens of a sequence. Default: 2,048, or the model's limit.")
    ] = 0,
    users: Annotated[int, typer.Option(min=1, help="Sequences that begin alike.")] = 32,
    prefix: Annotated[
        int | None, typer.Option(min=0, help="Tokens that they share. Default: half of each.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model's KV cache costs a token, how much fits, and what a shared prefix saves.

    Example: [bold]radixroute kv plan models/Llama-3.1-8B --memory 24GiB --dtype int8[/]
    """
    planned = _plan_of(model, memory, dtype, block_size)
    longest = planned.shape.max_position
    length = length or min(2048, longest)
    if not (prefix or 0) <= length <= longest:
        raise BadInput(
            f"--length {length} must hold the --prefix and be within the model's {longest} tokens"
        )
    sharing = planned.sharing(users, length // 2 if prefix is None else prefix, length)
    if as_json:
        show_json(_as_json(planned, length, sharing))
    else:
        _show(planned, length, sharing)


def _plan_of(model: Path, memory: str, dtype: str, block_size: int) -> KVPlan:
    from radixroute.worker.model.kv.plan import KVPlan

    try:
        n_bytes = from_text(memory, int, "kv_memory")
    except WrongType as error:
        raise BadInput(f"--memory {error}") from None
    shape, kv_format = kv_of(model, dtype, "--dtype")
    planned = KVPlan(shape, kv_format, block_size, int(str(n_bytes)))
    if planned.n_blocks < 1:
        raise BadInput(f"--memory holds not one block of {planned.block_bytes:,} bytes: give more")
    return planned


def _as_json(planned: KVPlan, length: int, sharing: Sharing) -> dict[str, Any]:
    from radixroute.worker.model.kv.plan import bytes_by_format, variants

    shape = planned.shape
    return {
        "family": shape.family,
        "variant": shape.variant,
        "layers": shape.n_layers,
        "windows": {str(one.window): one.n_layers for one in shape.layouts if one.window},
        "dtype": planned.kv_format.name,
        "block_size": planned.block_size,
        "memory_bytes": planned.memory,
        "formula": planned.formula(),
        "bytes_per_token": planned.bytes_per_token,
        "block_bytes": planned.block_bytes,
        "blocks": planned.n_blocks,
        "tokens": planned.n_tokens,
        "bytes_per_token_by_dtype": bytes_by_format(shape.layouts),
        "bytes_per_token_by_variant": {
            name: sum(one.bytes_per_token(planned.kv_format) for one in layouts)
            for name, layouts in variants(shape).items()
        },
        "sequences": [
            {"tokens": n, "bytes": planned.sequence_bytes(n), "fit": planned.sequences(n)}
            for n in _lengths(planned, length)
        ],
        "sharing": {
            "users": sharing.n_users,
            "tokens": length,
            "prefix": sharing.prefix_len,
            "bytes_apart": sharing.apart,
            "bytes_together": sharing.together,
            "bytes_saved": sharing.saved,
        },
    }


def _show(planned: KVPlan, length: int, sharing: Sharing) -> None:
    told = _as_json(planned, length, sharing)
    name = planned.kv_format.name
    show(
        f"[bold]{told['family']}[/], {told['variant']}, up to {planned.shape.max_position:,} tokens"
    )
    show(f"a token in {name}: {planned.formula()}")
    show(
        f"{_size(planned.memory)} hold {planned.n_blocks:,} blocks of {planned.block_size} tokens: "
        f"[bold]{planned.n_tokens:,} tokens[/]"
    )
    _show_formats(planned, length)
    _show_variants(told)
    table = table_of("a sequence", ("tokens", "KV", "sequences that fit"))
    for one in told["sequences"]:
        table.add_row(f"{one['tokens']:,}", _size(one["bytes"]), f"{one['fit']:,}")
    show_table(table)
    show(
        f"{sharing.n_users} users of {length:,} tokens, {sharing.prefix_len:,} of them shared: "
        f"{_size(sharing.together)} instead of {_size(sharing.apart)}, "
        f"[bold]{_size(sharing.saved)} saved[/] ({share(sharing.saved, sharing.apart)})"
    )


def _show_formats(planned: KVPlan, length: int) -> None:
    from radixroute.worker.model.kv.formats import FORMATS

    columns = ("dtype", "bytes a token", "tokens that fit", f"sequences of {length:,}")
    table = table_of("dtypes", columns, left=("dtype",))
    for name, one in FORMATS.items():
        other = planned.in_format(one)
        numbers = (other.bytes_per_token, other.n_tokens, other.sequences(length))
        table.add_row(name, *(f"{number:,}" for number in numbers))
    show_table(table)


def _show_variants(told: dict[str, Any]) -> None:
    by_variant = told["bytes_per_token_by_variant"]
    columns = ("variant", "bytes a token", "of MHA")
    table = table_of(f"at this width, in {told['dtype']}", columns, left=("variant",))
    for name, n_bytes in by_variant.items():
        shown = f"{name} (this model)" if name == told["variant"] else name
        table.add_row(shown, f"{n_bytes:,}", share(n_bytes, by_variant["MHA"]))
    show_table(table)


def _lengths(planned: KVPlan, length: int) -> list[int]:
    """From 1,024 in doublings to the model's limit, with the length that was asked for."""
    longest = planned.shape.max_position
    doublings = [1024 << step for step in range(15) if 1024 << step <= longest]
    return sorted({*doublings, length, longest})


def _size(n_bytes: int) -> str:
    """In the largest unit that leaves 1 or more, to four places."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.4g} {unit}".replace(",", "")
    return f"{n_bytes} bytes"
