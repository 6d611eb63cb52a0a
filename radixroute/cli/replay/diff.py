"""The command `replay diff`: two runs of one trace, request by request."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from radixroute.cli.console import show
from radixroute.cli.reported_errors import reported_replay_errors
from radixroute.errors import BadInput


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="requests.jsonl of a report.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Of another run of that trace.")],
    *,
    top: Annotated[int, typer.Option(help="How many requests to list.")] = 10,
) -> None:
    """The requests that two runs placed differently, and what that cost.

    Example: [bold]radixroute replay diff a/requests.jsonl b/requests.jsonl[/]
    """
    from radixroute.replay.report.diff import diff as compare
    from radixroute.replay.report.diff import diff_text, read_rows

    with reported_replay_errors():
        a, b = (read_rows(_lines(path)) for path in (first, second))
        show(escape(diff_text(compare(a, b, top))))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text: name a requests.jsonl of a report") from None
