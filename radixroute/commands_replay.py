"""The commands `replay ...`: workloads and traces, replayed without an engine. They ask no router.

Owns the group, and its rule for a default: words that name no command of the group go to the one
called `run`, where there is one, so that `radixroute replay FILE` needs no word more.
"""

import dataclasses
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from radixroute.console import cell, show
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.trace import Trace

DEFAULT_COMMAND = "run"
_GROUP_OPTIONS = ("--help",)


class ReplayGroup(TyperGroup):
    """A group with a default command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_own = not args or args[0] in self.commands or args[0] in _GROUP_OPTIONS
        if DEFAULT_COMMAND in self.commands and not is_own:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


replay_app = typer.Typer(
    cls=ReplayGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Replay traces without an engine, and make workloads for that.",
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(replay_app, name="replay")


@replay_app.callback()
def _group() -> None:
    """Keeps a group of one command a group."""


@replay_app.command()
def synth(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="chats, system_prompts, few_shot, agents, rag, bursts or hot_prefix.",
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; .gz compresses it.")
    ],
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 0,
    requests: Annotated[
        int | None, typer.Option(help="How many requests. Default: 2,000.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of the kind; may be repeated."
        ),
    ] = None,
) -> None:
    """Write a synthetic workload as a trace file.

    Example: [bold]radixroute replay synth chats -o chats.jsonl.gz --seed 1 --set think_s=5[/]
    """
    from radixroute.replay.synth import shape_of, synthesize

    texts = dict(_assignment(text) for text in settings or ())
    with _reported():
        shape = shape_of(kind, texts)
        if requests is not None:
            shape = dataclasses.replace(shape, requests=requests)
        trace = synthesize(kind, seed, shape)
    _write(trace, output)
    show(
        f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens, digest {trace.digest}:"
        f" [bold]{cell(output)}[/]"
    )


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"--set {text}: write NAME=VALUE")
    return name.strip(), value.strip()


def _write(trace: "Trace", path: Path) -> None:
    from radixroute.replay.trace_own import write_own

    try:
        with path.open("wb") as file:
            if path.suffix != ".gz":
                write_own(trace, file)
                return
            # Without name and time, equal traces are equal files.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                write_own(trace, packed)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _reported() -> Iterator[None]:
    """What `replay` says, with our exit codes."""
    from radixroute.replay.errors import ReplayError

    try:
        yield
    except ReplayError as error:
        raise BadInput(str(error)) from error
