"""Trace files as commands are given them: read and written, with errors that name the file."""

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.replay.traces.files import Reading
    from radixroute.replay.traces.trace import Trace


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


def read_trace_file(
    path: Path, format_name: str | None, block_size: int | None, *, skip_bad: bool
) -> "Reading":
    from radixroute.replay.traces.files import read_trace

    try:
        return read_trace(path, format_name, block_size=block_size, skip_bad=skip_bad)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
