"""`EventRecorder`: streams into a recording, frame for frame. The writing half of `recording`.

Owns the numbers of the sources and the count of what was written; the file is the caller's, who
opened it and closes it. Pure but for its `write` and `flush`: times come in with the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from radixroute.events.errors import LocalEventError
from radixroute.events.recording.recording import (
    FORMAT,
    MAGIC,
    MAX_RECORD_BYTES,
    MAX_SOURCES,
    Channel,
    End,
    Header,
    Joined,
    Left,
    Message,
    Record,
    RecordedScope,
    Source,
    encode,
)

# MessagePack's own bytes around a frame, with room to spare.
_FRAME_OVERHEAD = 8


@dataclass(slots=True)
class RecorderCounters:
    """What became of messages."""

    written: int = 0
    refused: int = 0  # beyond the size of a record; the recording says how many at its end
    bytes: int = 0  # of the file


class EventRecorder:
    """Writes one recording: any number of messages and sources, then `finish`.

    Each verb returns the record as it was written, for whoever follows along.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        started_unix_ns: int,
        by: str,
        scope: RecordedScope | None = None,
        sources: Sequence[Source] = (),
    ) -> None:
        self._file = file
        self._n_sources = len(sources)
        self._last_ns = 0
        self._is_finished = False
        self.counters = RecorderCounters()
        self.header = Header(FORMAT, started_unix_ns, by, scope or RecordedScope(), list(sources))
        self._put(MAGIC)
        self._put(encode(self.header))

    def message(
        self, at_ns: int, source: int, channel: Channel, frames: list[bytes]
    ) -> Message | None:
        """One message as it was received; None: refused for its size and counted."""
        self._require_source(source)
        if sum(len(frame) + _FRAME_OVERHEAD for frame in frames) + 64 > MAX_RECORD_BYTES:
            self.counters.refused += 1
            return None
        record = Message(self._time(at_ns), source, channel, frames)
        self._write(record)
        return record

    def join(self, at_ns: int, source: Source) -> tuple[int, Joined]:
        """A source, and the number it has from here on."""
        if self._n_sources == MAX_SOURCES:
            raise LocalEventError(f"a recording takes {MAX_SOURCES} sources: begin another")
        record = Joined(self._time(at_ns), source)
        self._write(record)
        self._n_sources += 1
        return self._n_sources - 1, record

    def leave(self, at_ns: int, source: int) -> Left:
        self._require_source(source)
        record = Left(self._time(at_ns), source)
        self._write(record)
        return record

    def finish(self, at_ns: int) -> End:
        """Says that nothing was cut off. The last verb."""
        record = End(self._time(at_ns), self.counters.refused)
        self._write(record)
        self._is_finished = True
        self.flush()
        return record

    def flush(self) -> None:
        """What was written so far survives this process."""
        self._file.flush()

    def _write(self, record: Record) -> None:
        if self._is_finished:
            raise LocalEventError("the recording is finished")
        self._put(encode(record))
        self.counters.written += 1

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.counters.bytes += len(data)

    def _time(self, at_ns: int) -> int:
        """Never backwards: readers count on it."""
        self._last_ns = max(self._last_ns, at_ns)
        return self._last_ns

    def _require_source(self, source: int) -> None:
        if not 0 <= source < self._n_sources:
            raise LocalEventError(f"source {source} has not joined")
