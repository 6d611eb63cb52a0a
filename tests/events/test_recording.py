"""The file: what goes in comes out, and whatever was done to it is said."""

import io
import random

import pytest

from radixroute.events.errors import LocalEventError, RecordingError
from radixroute.events.recording import recording
from radixroute.events.recording.reader import Ending, RecordingReader
from radixroute.events.recording.recorder import EventRecorder
from radixroute.events.recording.recording import (
    HEAD,
    MAGIC,
    Channel,
    End,
    Header,
    Joined,
    Left,
    Message,
    Record,
    RecordedScope,
    Wire,
    encode,
)
from tests.events.recordings import reader_of, recorder_of, source

SCOPE = RecordedScope(model="tiny", block_size=16, fingerprint="f")


def small_recording():
    """Every kind of record; and the bytes."""
    recorder, file = recorder_of(source("w0"), scope=SCOPE)
    recorder.message(5, 0, Channel.EVENTS, [b"rr1", b"", b"\x00\xff"])
    number, _ = recorder.join(6, source("w1", ranks=2, wire=Wire.FOREIGN, epoch=b"", control=""))
    recorder.message(7, number, Channel.CONTROL, [])
    recorder.leave(8, 0)
    recorder.finish(9)
    return file


def records_of(reader):
    return [place.record for place in reader]


def read_into(read, data):
    for place in RecordingReader(io.BytesIO(data)):
        read.append(place.record)


def test_what_was_recorded_is_read_to_the_byte():
    reader = reader_of(small_recording())
    assert reader.header == Header(recording.FORMAT, 0, "a test", SCOPE, [source("w0")])
    assert records_of(reader) == [
        Message(5, 0, Channel.EVENTS, [b"rr1", b"", b"\x00\xff"]),
        Joined(6, source("w1", ranks=2, wire=Wire.FOREIGN, epoch=b"", control="")),
        Message(7, 1, Channel.CONTROL, []),
        Left(8, 0),
        End(9, 0),
    ]
    assert (reader.ending, reader.n_records, reader.end_ns) == (Ending.FINISHED, 5, 9)


def test_any_frames_survive():
    rng = random.Random(3)
    recorder, file = recorder_of(source())
    sent = [
        [rng.randbytes(rng.choice([0, 1, 100, 70_000])) for _ in range(rng.randint(0, 5))]
        for _ in range(50)
    ]
    for frames in sent:
        recorder.message(0, 0, rng.choice(list(Channel)), frames)
    assert [record.frames for record in records_of(reader_of(file))] == sent


def test_a_tail_cut_off_anywhere_is_reported_and_all_before_it_is_read():
    whole = small_recording().getvalue()
    all_records = records_of(RecordingReader(io.BytesIO(whole)))
    starts = _starts(whole)
    for end in range(starts[0], len(whole)):
        reader = RecordingReader(io.BytesIO(whole[:end]))
        read = records_of(reader)
        n_whole = sum(1 for start in starts[1:] if start <= end)
        assert read == all_records[:n_whole], end
        expected = Ending.UNFINISHED if end in starts else Ending.CUT
        assert reader.ending is expected, end
        assert reader.cut_at == (None if end in starts else max(s for s in starts if s < end))


def test_a_byte_changed_anywhere_is_one_error_with_the_place():
    whole = small_recording().getvalue()
    all_records = records_of(RecordingReader(io.BytesIO(whole)))
    starts = _starts(whole)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        read: list[Record] = []
        with pytest.raises(RecordingError) as raised:
            read_into(read, bytes(damaged))
        if at >= starts[0]:
            start = max(start for start in starts if start <= at)
            assert f"at byte {start} " in str(raised.value)
            assert read == all_records[: starts.index(start)]


def test_a_recording_of_the_first_format_is_read():
    file = io.BytesIO(MAGIC + encode(Header(1, 0, "radixroute 0", SCOPE, [])) + encode(End(0, 0)))
    assert [place.record for place in RecordingReader(file)] == [End(0, 0)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no recording"),
        (b"some text of some length", "no recording"),
        (MAGIC, "header at byte 13 is damaged"),
        (MAGIC + encode(End(0, 0)), "no header"),
        (MAGIC + encode(Header(3, 0, "radixroute 9", SCOPE, [])), "use radixroute 9"),
        (MAGIC + encode(Header(0, 0, "radixroute 0", SCOPE, [])), "reads 1 to 2"),
    ],
)
def test_a_file_that_is_no_recording_says_so(data, says):
    with pytest.raises(RecordingError, match=says):
        RecordingReader(io.BytesIO(data))


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([Message(0, 1, Channel.EVENTS, [])], "source 1 has not joined"),
        ([Left(0, 7)], "source 7 has not joined"),
        ([Joined(5, source("b")), Joined(4, source("c"))], "time goes backwards"),
        ([End(0, 0), Left(0, 0)], "behind the end"),
        ([Header(1, 0, "", SCOPE, [])], "not of the form"),
    ],
)
def test_records_that_cannot_be_are_damage(records, says):
    _, file = recorder_of(source())
    for record in records:
        file.write(encode(record))
    with pytest.raises(RecordingError, match=says):
        records_of(reader_of(file))


def test_any_bytes_are_records_or_one_error():
    whole = small_recording().getvalue()
    for seed in range(2000):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(MAGIC), len(data))
            data[at : at + rng.randint(0, 6)] = rng.randbytes(rng.randint(0, 6))
        try:
            records_of(RecordingReader(io.BytesIO(bytes(data))))
        except RecordingError:
            continue


def test_a_message_too_big_for_a_record_is_refused_and_counted(monkeypatch):
    monkeypatch.setattr("radixroute.events.recording.recorder.MAX_RECORD_BYTES", 1000)
    recorder, file = recorder_of(source())
    assert recorder.message(0, 0, Channel.EVENTS, [b"x" * 2000]) is None
    assert recorder.message(0, 0, Channel.EVENTS, [b"x" * 200]) is not None
    recorder.finish(0)
    reader = reader_of(file)
    assert len(records_of(reader)) == 2
    assert recorder.counters.refused == reader.refused == 1


def test_time_never_goes_backwards_in_a_recording():
    recorder, file = recorder_of(source())
    for at_ns in (5, 3, 8):
        recorder.message(at_ns, 0, Channel.EVENTS, [])
    assert [record.at_ns for record in records_of(reader_of(file))] == [5, 5, 8]


def test_misuse_is_the_callers():
    recorder, _ = recorder_of(source())
    with pytest.raises(LocalEventError, match="has not joined"):
        recorder.message(0, 1, Channel.EVENTS, [])
    recorder.finish(0)
    with pytest.raises(LocalEventError, match="finished"):
        recorder.leave(0, 0)


def test_the_bytes_written_are_counted():
    recorder, file = recorder_of(source())
    recorder.message(0, 0, Channel.EVENTS, [b"abc"])
    assert recorder.counters.bytes == len(file.getvalue())


def test_the_file_stays_the_callers():
    file = io.BytesIO()
    EventRecorder(file, started_unix_ns=0, by="").finish(0)
    assert not file.closed


def _starts(whole: bytes) -> list[int]:
    """Offsets of the records after the header, and of the end."""
    at, starts = len(MAGIC), []
    while at < len(whole):
        at += HEAD.size + HEAD.unpack_from(whole, at)[0]
        starts.append(at)
    return starts
