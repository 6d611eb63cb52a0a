"""Reads a recording, record by record, in memory of one record. The reading half of `recording`.

Owns the place in the file and how it ended. A cut-off tail ends the records and is reported in
`ending`; damage raises one `RecordingError` that names the place, after everything before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from radixroute.events.errors import RecordingError
from radixroute.events.recording.recording import (
    HEAD,
    MAGIC,
    End,
    Header,
    Joined,
    Left,
    Message,
    Record,
    body_len,
    decode_header,
    decode_record,
    is_whole,
)


class Ending(Enum):
    """How a recording ends."""

    UNREAD = "not read to its end"
    FINISHED = "finished"
    UNFINISHED = "the recorder was killed, or still runs"
    CUT = "its last record is cut off: the recorder was killed, or the file was not copied whole"


@dataclass(frozen=True, slots=True)
class Numbered:
    """A record and its place: the first after the header is number 1."""

    number: int
    record: Record


class RecordingReader:
    """Iterate once: from the first record after the header to the end of what is readable.

    Raises `RecordingError` here for a file that is no recording.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self.header = self._read_header()
        self.ending = Ending.UNREAD
        self.n_records = 0
        self.n_sources = len(self.header.sources)
        self.end_ns = 0  # of the last record read
        self.refused = 0  # messages the recorder could not keep; known at the end
        self.cut_at: int | None = None  # offset of the record that is cut off

    def __iter__(self) -> Iterator[Numbered]:
        while (body := self._next_body()) is not None:
            record = self._decode(body)
            self.n_records += 1
            self.end_ns = record.at_ns
            if isinstance(record, Joined):
                self.n_sources += 1
            yield Numbered(self.n_records, record)
            if isinstance(record, End):
                self.refused = record.refused
                self._require_nothing_more()
                self.ending = Ending.FINISHED
                return

    def _read_header(self) -> Header:
        magic = self._read(len(MAGIC))
        if magic != MAGIC:
            raise RecordingError("it is no recording of radixroute: make one with `record`")
        head = self._read(HEAD.size)
        length = body_len(head) if len(head) == HEAD.size else None
        body = b"" if length is None else self._read(length)
        if length is None or not is_whole(head, body):
            raise RecordingError(f"its header at byte {len(MAGIC)} is damaged: record again")
        return decode_header(body)

    def _next_body(self) -> bytes | None:
        """None at the end, whole or cut."""
        start = self._offset
        head = self._read(HEAD.size)
        if not head:
            self.ending = Ending.UNFINISHED
            return None
        if len(head) < HEAD.size:
            self._end_at_cut(start)
            return None
        length = body_len(head)
        if length is None:
            raise self._damage(start, "its head does not add up")
        body = self._read(length)
        if len(body) < length:
            self._end_at_cut(start)
            return None
        if not is_whole(head, body):
            raise self._damage(start, "its sum is wrong")
        return body

    def _decode(self, body: bytes) -> Record:
        start = self._offset - len(body) - HEAD.size
        try:
            record = decode_record(body)
        except RecordingError as error:
            raise self._damage(start, str(error)) from error
        if record.at_ns < self.end_ns:
            raise self._damage(start, "time goes backwards")
        if isinstance(record, Message | Left) and record.source >= self.n_sources:
            raise self._damage(start, f"source {record.source} has not joined")
        return record

    def _require_nothing_more(self) -> None:
        start = self._offset
        if self._read(1):
            raise self._damage(start, "something stands behind the end")

    def _end_at_cut(self, start: int) -> None:
        self.ending = Ending.CUT
        self.cut_at = start

    def _damage(self, start: int, what: str) -> RecordingError:
        return RecordingError(
            f"record {self.n_records + 1} at byte {start} is damaged ({what}); "
            f"the {self.n_records} records before it can be read"
        )

    def _read(self, n: int) -> bytes:
        data = self._file.read(n)
        self._offset += len(data)
        return data
