"""Recordings that a command is given: opened, a point in them, and how they end.

Owns what is said of a file that cannot be read, or ends too soon.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from radixroute.cli.console import tell
from radixroute.errors import BadInput, DamagedRecording

if TYPE_CHECKING:
    from radixroute.events.recording.reader import RecordingReader
    from radixroute.events.recording.recorded import Point


@contextmanager
def open_recording(file: Path) -> "Iterator[RecordingReader]":
    from radixroute.events.errors import RecordingError
    from radixroute.events.recording.reader import RecordingReader

    try:
        data = file.open("rb")
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    with data:
        try:
            reader = RecordingReader(data)
        except (RecordingError, OSError) as error:
            raise BadInput(f"cannot read {file}: {error}") from error
        try:
            yield reader
        except RecordingError as error:
            raise DamagedRecording(f"{file}: {error}") from error


def tell_ending(file: Path, reader: "RecordingReader") -> None:
    from radixroute.events.recording.reader import Ending

    if reader.ending in (Ending.CUT, Ending.UNFINISHED):
        place = "" if reader.cut_at is None else f" at byte {reader.cut_at}"
        tell(
            f"{file} ends{place} without an end mark, after r{reader.n_records} "
            f"({reader.end_ns / 1e9:.3f} s): {reader.ending.value}"
        )


def parsed_point(text: str) -> "Point":
    from radixroute.events.errors import BadPoint
    from radixroute.events.recording.recorded import parse_point

    try:
        return parse_point(text)
    except BadPoint as error:
        raise BadInput(str(error)) from error
