"""Trace files as commands are given them: read and written, with errors that name the file.

Owns the options that say how a file is meant, for every command that reads one.
"""

import gzip
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.markup import escape

from radixroute.cli.console import show, tell
from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.traces.chats.encoder import PromptEncoder
    from radixroute.replay.traces.files import Reading
    from radixroute.replay.traces.trace import Trace

_OF_FILE = "How the file is meant"

TraceArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE",
        help="A trace file: JSON lines, a JSON array, CSV or Parquet; may be compressed or packed.",
    ),
]
FormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Of the file. Default: told by the names of its fields.",
        rich_help_panel=_OF_FILE,
    ),
]
TraceBlockOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Tokens of one block id, where the format leaves that open.", rich_help_panel=_OF_FILE
    ),
]
TimeUnitOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="s|ms|us|ns", help="Of times that do not name theirs.", rich_help_panel=_OF_FILE
    ),
]
DefaultOutputOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Output tokens of rows that do not say.", rich_help_panel=_OF_FILE),
]
SessionRowsOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="auto|whole|increment",
        help="Rows of a session repeat its whole prompt, or hold what they add; auto: by their"
        " block ids.",
        rich_help_panel=_OF_FILE,
    ),
]
SkipBadOption: TypeAlias = Annotated[
    bool,
    typer.Option(help="Leave bad lines out and count them.", rich_help_panel=_OF_FILE),
]
TokenizerOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="For logs of chats (ShareGPT, WildChat): the model whose tokenizer counts.",
        rich_help_panel=_OF_FILE,
    ),
]
ChatRateOption: TypeAlias = Annotated[
    float,
    typer.Option(help="Conversations a second, of logs without times.", rich_help_panel=_OF_FILE),
]
ThinkTimeOption: TypeAlias = Annotated[
    float,
    typer.Option(
        help="Seconds from an answer to the next message, where a log has no times.",
        rich_help_panel=_OF_FILE,
    ),
]


@dataclass(frozen=True, slots=True)
class Meant:
    """What was said of a file. Names are those of the parameters of commands that read one."""

    format_name: str | None = None
    trace_block_size: int | None = None
    time_unit: str | None = None
    default_output: int | None = None
    session_rows: str = "auto"
    skip_bad: bool = False
    tokenizer: Path | None = None
    chat_rate: float = 1.0
    think_time: float = 10.0
    limit: int | None = None
    seed: int = 0


def meant_by(ctx: typer.Context) -> Meant:
    """By whoever typed a command that has these options."""
    return Meant(**{one.name: ctx.params[one.name] for one in fields(Meant)})


def write_trace(trace: "Trace", path: Path) -> None:
    """In our own format; a name that ends in .gz compresses it. Raises `BadInput`."""
    from radixroute.replay.traces.own_format import write_own

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


def read_trace_file(path: Path, meant: Meant) -> "Reading":
    """Raises `BadInput`, with the option that would let it be read where there is one."""
    from radixroute.replay.errors import BadTrace
    from radixroute.replay.traces.files import read_trace
    from radixroute.replay.traces.reading.wanted import ChatTimes

    if meant.chat_rate <= 0 or meant.think_time < 0:
        raise BadInput("--chat-rate is a number above 0, and --think-time one of 0 or more")
    try:
        return read_trace(
            path,
            meant.format_name,
            block_size=meant.trace_block_size,
            skip_bad=meant.skip_bad,
            time_unit=meant.time_unit,
            default_output=meant.default_output,
            session_rows=meant.session_rows,
            encoder=_encoder(meant.tokenizer),
            chat_times=ChatTimes(meant.chat_rate, meant.think_time, meant.seed),
            limit=meant.limit,
        )
    except BadTrace as error:
        raise BadInput(f"{error}{_way_on(error.n_bad)}") from error


def show_understood(reading: "Reading", trace: "Trace", block_size: int | None) -> None:
    """What the file says, as it was understood. `block_size`: of the engine, if that is known."""
    from radixroute.replay.analysis.bounds import infinite
    from radixroute.replay.fleet.shape import engine_block_size
    from radixroute.replay.traces.reading.understood import understood
    from radixroute.replay.traces.trace import prefixes

    block_size = engine_block_size(trace.block_size) if block_size is None else block_size
    reusable = infinite(trace, prefixes(trace, block_size)).fraction
    for line in understood(reading, trace, block_size, reusable):
        show(escape(line))
    for doubt in reading.doubts:
        tell(f"look: {doubt}")


def _encoder(folder: Path | None) -> "PromptEncoder | None":
    if folder is None:
        return None
    from radixroute.replay.traces.chats.tokenized import TokenizedChats
    from radixroute.request.errors import TokenizerError
    from radixroute.request.tokenizer import Tokenizer

    try:
        return TokenizedChats(Tokenizer.from_dir(folder.parent if folder.is_file() else folder))
    except TokenizerError as error:
        raise BadInput(f"--tokenizer: {error}") from error


def _way_on(n_bad: int) -> str:
    if not n_bad:
        return ""
    which = "such a line is" if n_bad == 1 else f"{n_bad:,} lines that cannot be read are"
    return f"; {which} left out and counted with --skip-bad"
