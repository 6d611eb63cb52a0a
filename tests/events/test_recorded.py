"""Points of a recording, the index at each of them, and what changed between two."""

import io
import random

import pytest

from radixroute.events.errors import BadPoint, PointBeyondEnd, RecordingError
from radixroute.events.recording.reader import RecordingReader
from radixroute.events.recording.recorded import (
    AtEnd,
    AtRecord,
    AtTime,
    Point,
    changes,
    parse_point,
    rebuild,
)
from radixroute.events.recording.recording import Channel
from radixroute.events.wire.native import encode_batch
from radixroute.radix.ids import Holder, WorkerId
from tests.events.fakes import HOLDER, stored
from tests.events.recordings import RecordedWorld, reader_of, recorder_of, source
from tests.events.session_bench import batch

SECOND = 1_000_000_000


def held(rebuilt, holder=HOLDER):
    content = rebuilt.content_of(holder)
    by_tier = {} if content is None else content.keys_by_tier
    return {(key, tier) for tier, keys in by_tier.items() for key in keys.tolist()}


def pairs(by_tier):
    return {(key, tier) for tier, keys in by_tier.items() for key in keys.tolist()}


def three_batches():
    """Batches at 1, 2 and 3 s: records r1, r2 and r3; r4 ends it at 4 s."""
    recorder, file = recorder_of(source())
    for seq in range(3):
        recorder.message((seq + 1) * SECOND, 0, Channel.EVENTS, encode_batch(batch(seq)))
    recorder.finish(4 * SECOND)
    return file


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("12.5", AtTime(12_500_000_000)),
        ("3s", AtTime(3 * SECOND)),
        ("0", AtTime(0)),
        ("r120", AtRecord(120)),
        ("end", AtEnd()),
    ],
)
def test_a_point_is_seconds_a_record_or_the_end(text, point):
    assert parse_point(text) == point


@pytest.mark.parametrize("text", ["", "r", "r-1", "-1", "nan", "inf", "1e99", "later", "r1.5", "s"])
def test_what_is_no_point_says_what_one_is(text):
    with pytest.raises(BadPoint, match=r"seconds \(12.5\), a record's number \(r120\) or end"):
        parse_point(text)


@pytest.mark.parametrize(
    ("point", "record", "n_blocks"),
    [
        (AtRecord(0), 0, 0),
        (AtTime(0), 0, 0),
        (AtTime(1 * SECOND - 1), 0, 0),
        (AtTime(1 * SECOND), 1, 1),
        (AtRecord(2), 2, 2),
        (AtTime(int(2.5 * SECOND)), 2, 2),
        (AtTime(4 * SECOND), 4, 3),
        (AtRecord(4), 4, 3),
        (AtEnd(), 4, 3),
    ],
)
def test_the_index_is_rebuilt_at_a_point(point, record, n_blocks):
    (rebuilt,) = rebuild(reader_of(three_batches()), [point])
    assert (rebuilt.record, len(held(rebuilt))) == (record, n_blocks)
    (content,) = rebuilt.contents
    assert content.n_blocks == n_blocks


@pytest.mark.parametrize("point", [AtTime(4 * SECOND + 1), AtRecord(5)])
def test_a_point_beyond_the_end_says_where_that_is(point):
    with pytest.raises(PointBeyondEnd, match=r"ends at 4.000 s with record r4"):
        rebuild(reader_of(three_batches()), [AtEnd(), point])


def test_what_is_damaged_after_the_last_point_does_not_matter():
    data = bytearray(three_batches().getvalue())
    data[-1] ^= 1
    found = rebuild(RecordingReader(io.BytesIO(bytes(data))), [AtRecord(3), AtTime(SECOND)])
    assert [len(held(one)) for one in found] == [3, 1]
    with pytest.raises(RecordingError, match="record 4 at byte"):
        rebuild(RecordingReader(io.BytesIO(bytes(data))), [AtEnd()])


def test_a_recording_that_is_cut_off_can_be_rebuilt_up_to_there():
    data = three_batches().getvalue()[:-3]
    (rebuilt,) = rebuild(RecordingReader(io.BytesIO(data)), [AtEnd()])
    assert (rebuilt.record, rebuilt.at_ns) == (3, 3 * SECOND)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_any_two_points_differ_as_what_was_known_then(first):
    n_changes = 0
    for seed in range(first, first + 20):
        world = RecordedWorld(seed)
        world.run(160, is_busy=True)
        reader = world.finish()
        rng = random.Random(seed)
        a, b = (rng.randint(1, len(world.lived)) for _ in range(2))
        before, after = rebuild(reader, [AtRecord(a), AtRecord(b)])
        old, new = world.lived[a - 1], world.lived[b - 1]
        (change,) = changes(before, after)
        assert pairs(change.added) == new - old, f"seed {seed}"
        assert pairs(change.removed) == old - new, f"seed {seed}"
        assert (change.n_added, change.n_removed) == (len(new - old), len(old - new))
        n_changes += change.n_added + change.n_removed
    assert n_changes > 100


def test_points_may_come_in_any_order_and_twice():
    points: list[Point] = [AtEnd(), AtTime(SECOND), AtRecord(2), AtEnd(), AtTime(SECOND), AtTime(0)]
    found = rebuild(reader_of(three_batches()), points)
    assert [len(held(one)) for one in found] == [3, 1, 2, 3, 1, 0]


def test_a_stream_that_came_or_went_changes_by_all_it_held():
    recorder, file = recorder_of(source("a"))
    recorder.message(0, 0, Channel.EVENTS, encode_batch(batch(0, stored(None, 1, 2))))
    recorder.leave(1, 0)
    recorder.join(2, source("b"))
    recorder.message(3, 1, Channel.EVENTS, encode_batch(batch(0, stored(None, 3))))
    before, after = rebuild(reader_of(file), [AtRecord(1), AtEnd()])
    found = {one.holder: (one.n_added, one.n_removed) for one in changes(before, after)}
    assert found == {Holder(WorkerId("a")): (0, 2), Holder(WorkerId("b")): (1, 0)}
