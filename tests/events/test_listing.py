"""What people read of a recording: entries in order, with what went wrong marked."""

import msgpack
import pytest

from radixroute.events.engines.vllm import encode_replay_request
from radixroute.events.recording.gaps import MAX_MISSING, SeqTrack
from radixroute.events.recording.listing import Listing, listed, name_of
from radixroute.events.recording.recorded import AtEnd, AtRecord, AtTime
from radixroute.events.recording.recording import Channel, Wire
from radixroute.events.wire.control import (
    ResendDone,
    ResendRequest,
    SnapshotRequest,
    encode_part,
    encode_request,
    encode_resend_done,
)
from radixroute.events.wire.native import encode_batch, encode_heartbeat
from radixroute.radix.ids import Tier
from tests.events.fakes import removed, stored
from tests.events.recordings import reader_of, recorder_of, source
from tests.events.session_bench import EPOCH, OTHER, batch, honest_beat, part
from tests.events.test_vllm_frames import frames_of, lines

EVENTS, CONTROL, REQUESTS = Channel.EVENTS, Channel.CONTROL, Channel.REQUESTS


def entries_of(*messages, sources=None, **range_):
    """Of messages one second apart: (frames, channel) or frames of the event channel."""
    recorder, file = recorder_of(*(sources or [source()]))
    for number, message in enumerate(messages):
        frames, channel = message if isinstance(message, tuple) else (message, EVENTS)
        recorder.message((number + 1) * 10**9, 0, channel, frames)
    bounds = {"source": None, "start": AtRecord(0), "stop": AtEnd()} | range_
    return list(listed(reader_of(file), **bounds))


def kinds(entries):
    return [(one.kind, one.seq) for one in entries if one.kind != "joined"]


def batches(*seqs, epoch=EPOCH):
    return [encode_batch(batch(seq, epoch=epoch)) for seq in seqs]


def test_a_batch_tells_its_events():
    events = stored(5, 1, 2), stored(None, 3, tier=Tier.DISK), removed(1)
    entry = entries_of(encode_batch(batch(0, *events)))[-1]
    assert (entry.record, entry.at_ns, entry.source, entry.seq) == (1, 10**9, "w0", 0)
    told = [(one.kind, [*one.keys], one.tier, one.parent) for one in entry.events]
    assert told == [
        ("stored", [1, 2], "device", 5),
        ("stored", [3], "disk", None),
        ("removed", [1], "device", None),
    ]


def test_a_gap_is_marked_where_it_shows_and_where_it_is_mended():
    resent = [(frames, CONTROL) for frames in batches(1, 2)]
    done = encode_resend_done(ResendDone(EPOCH, 1)), CONTROL
    assert kinds(entries_of(*batches(0, 3), *resent, done)) == [
        ("batch", 0),
        ("gap", 1),
        ("batch", 3),
        ("replayed", 1),
        ("replayed", 2),
        ("mended", None),
        ("replay end", None),
    ]


def test_a_snapshot_mends_what_it_covers():
    snapshot = encode_part(part(3, stored(None, 7))), CONTROL
    assert kinds(entries_of(*batches(0, 3), snapshot))[-2:] == [("snapshot", 3), ("mended", None)]
    old = encode_part(part(1, stored(None, 7))), CONTROL
    assert kinds(entries_of(*batches(0, 3), old))[-1] == ("snapshot", 1)


def test_a_heartbeat_shows_a_lost_tail():
    entries = entries_of(*batches(0), encode_heartbeat(honest_beat(2)))
    assert kinds(entries) == [("batch", 0), ("gap", 1), ("heartbeats", 2)]
    assert entries[-2].note == "seq 1 to 2 did not arrive"


def test_what_came_before_the_recording_is_no_gap():
    assert kinds(entries_of(encode_heartbeat(honest_beat(7)), *batches(8))) == [
        ("heartbeats", 7),
        ("batch", 8),
    ]


def test_heartbeats_are_summarised_until_something_happens():
    beats = [encode_heartbeat(honest_beat(0))] * 3
    entries = entries_of(*beats, *batches(1), *beats[:2])
    assert [(one.kind, one.count, one.since_ns) for one in entries[1:]] == [
        ("heartbeats", 3, 1 * 10**9),
        ("batch", 1, None),
        ("heartbeats", 2, 5 * 10**9),
    ]


def test_an_epoch_that_changes_is_marked():
    entries = entries_of(*batches(0), *batches(0, epoch=OTHER))
    assert kinds(entries) == [("batch", 0), ("epoch", None), ("batch", 0)]
    assert "not the confirmed one" in entries[-2].note


def test_what_cannot_be_read_says_why():
    assert kinds(entries_of([b"rr1", b"", b""])) == [("malformed", None)]


def test_sources_that_come_and_go_and_the_end_are_told():
    recorder, file = recorder_of(source("a"))
    recorder.join(1, source("b", ranks=2))
    recorder.leave(2, 0)
    recorder.finish(3)
    reader = reader_of(file)
    entries = list(listed(reader, source=None, start=AtRecord(0), stop=AtEnd()))
    assert [(one.kind, one.source) for one in entries] == [
        ("joined", "a"),
        ("joined", "b"),
        ("left", "a"),
        ("end", ""),
    ]
    assert "2 streams" in entries[1].note


def test_tokens_of_a_foreign_engine_are_counted_and_never_told():
    engine = source("vllm", b"", wire=Wire.FOREIGN)
    frames = [frames_of(line) for line in lines("pub", "shared-prefix")]
    entries = entries_of(*frames, sources=[engine])
    told = [event for entry in entries for event in entry.events if event.kind == "stored"]
    assert all(event.n_tokens == 32 * len(event.keys) > 0 for event in told)
    assert not any(hasattr(event, "token_ids") for event in told)


def foreign(seq, channel=EVENTS):
    head = [b"topic"] if channel is EVENTS else [b""]
    return [*head, seq.to_bytes(8, "big"), msgpack.packb([1.0, [], None])], channel


FOREIGN_END = [b"", b"\xff" * 8, b""], CONTROL


def test_what_was_asked_for_is_told():
    sent = encode_request(SnapshotRequest()), encode_request(ResendRequest(3, 7))
    told = [one.note for one in entries_of(*((frames, REQUESTS) for frames in sent))[1:]]
    assert told == ["a snapshot", "seq 3 to 7"]


def test_a_foreign_engines_gaps_are_marked_mended_or_lost():
    engine = source("vllm", b"", wire=Wire.FOREIGN)
    asked = [(encode_replay_request(seq), REQUESTS) for seq in (0, 3)]
    entries = entries_of(
        asked[0],
        foreign(1, CONTROL),  # the first is kept nowhere
        FOREIGN_END,
        foreign(2),
        foreign(5),
        asked[1],
        foreign(3, CONTROL),
        foreign(4, CONTROL),
        foreign(8),
        FOREIGN_END,
        foreign(0),  # another life
        sources=[engine],
    )
    assert kinds(entries) == [
        ("asked", None),
        ("gap", 0),
        ("lost", 0),
        ("replayed", 1),
        ("replay end", None),
        ("batch", 2),
        ("gap", 3),
        ("batch", 5),
        ("asked", None),
        ("replayed", 3),
        ("replayed", 4),
        ("mended", None),
        ("gap", 6),
        ("batch", 8),
        ("replay end", None),  # 6 and 7 were not asked for yet
        ("epoch", None),
        ("batch", 0),
    ]
    late = [foreign(0), foreign(2), asked[0], FOREIGN_END]
    entries = entries_of(*late, sources=[engine])
    assert entries[-1].note == "seq 1: missing and not kept; nothing from before counts any more"


@pytest.mark.parametrize(
    ("bounds", "seqs"),
    [
        ({"start": AtRecord(2)}, [1, 2, 3]),
        ({"stop": AtRecord(2)}, [0, 1]),
        ({"start": AtTime(2 * 10**9), "stop": AtTime(3 * 10**9)}, [1, 2]),
        ({"start": AtTime(2 * 10**9 + 1), "stop": AtTime(4 * 10**9 - 1)}, [2]),
        ({"start": AtEnd()}, []),
        ({"source": "w0"}, [0, 1, 2, 3]),
        ({"source": "w1"}, []),
    ],
)
def test_a_part_of_a_recording_may_be_listed(bounds, seqs):
    assert [one.seq for one in entries_of(*batches(0, 1, 2, 3), **bounds) if one.record] == seqs


def test_a_gap_depends_on_what_came_before_the_part_listed():
    entries = entries_of(*batches(0, 3), start=AtRecord(2))
    assert kinds(entries) == [("gap", 1), ("batch", 3)]


def test_ranks_are_named_and_tracked_apart():
    frames = [encode_batch(batch(seq, rank=rank)) for seq, rank in ((0, 0), (5, 1), (1, 0), (6, 1))]
    entries = entries_of(*frames, sources=[source(ranks=2)])
    assert [one.source for one in entries[1:]] == ["w0", "w0/1", "w0", "w0/1"]
    assert {kind for kind, _ in kinds(entries)} == {"batch"}
    for name, seqs in (("w0/1", [5, 6]), ("w0/0", [0, 1]), ("w0", [0, 5, 1, 6])):
        only = entries_of(*frames, sources=[source(ranks=2)], source=name, start=AtRecord(1))
        assert [one.seq for one in only] == seqs


def test_a_listing_may_be_read_while_records_come():
    recorder, file = recorder_of(source())
    recorder.message(0, 0, EVENTS, batches(0)[0])
    reader = reader_of(file)
    listing = Listing(reader.header)
    (place,) = reader
    assert [one.kind for one in listing.entries(place)] == ["batch"]
    assert list(listing.rest()) == []


def test_keys_have_16_digits():
    assert name_of(255) == "00000000000000ff"
    assert name_of(2**64 - 1) == "f" * 16


def test_a_hole_of_any_size_takes_bounded_memory():
    track = SeqTrack()
    assert track.hear(0) is None
    assert track.hear(2**64 - 2) == range(1, 2**64 - 1)
    assert len(track._missing) == MAX_MISSING
    assert track.cover(2**64 - 2) == MAX_MISSING
