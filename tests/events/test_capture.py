"""Real publishers recorded over loopback: the recording alone leads to what they hold."""

import io
import time

import pytest
import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.recording.capture import Capture
from radixroute.events.recording.followed import Agreement
from radixroute.events.recording.follower import StreamFollower
from radixroute.events.recording.reader import Ending
from radixroute.events.recording.recording import Wire
from radixroute.events.session.states import StreamState
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import TOPIC_BATCH
from radixroute.radix.ids import Tier
from tests.events.fakes import HOLDER, removed, stored
from tests.events.receiver import PATIENCE_S
from tests.events.recordings import content_of, reader_of, source

FAST = PublisherSettings(heartbeat_interval_s=0.02, snapshot_part_blocks=16)


class Recorded:
    """Publishers, one capture of them, and what its file amounts to."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.running: list[EventPublisher] = []

    def publisher(self, incarnation=1):
        epoch = make_epoch(incarnation, b"noncenon")
        publisher = EventPublisher(epoch, FAST)
        publisher.start()
        self.running.append(publisher)
        endpoints = publisher.endpoints
        return publisher, source("w0", epoch, events=endpoints.events, control=endpoints.control)

    def capture(self, *sources):
        self.taken = Capture(self.file, sources, by="a test")
        return self.taken

    def until(self, is_reached):
        deadline = time.monotonic() + PATIENCE_S
        while not is_reached():
            assert time.monotonic() < deadline, self.taken.standings()
            self.taken.turn(10)

    @property
    def standing(self):
        (standing,) = self.taken.standings()
        return standing

    def played_back(self):
        """A follower of what is in the file."""
        reader = reader_of(self.file)
        follower = StreamFollower(reader.header)
        for place in reader:
            follower.follow(place.record)
        return follower, reader

    def stop(self):
        self.taken.close()
        for publisher in self.running:
            publisher.stop()


@pytest.fixture
def recorded():
    recorded = Recorded()
    yield recorded
    recorded.stop()


def device(*keys):
    return {(key, Tier.DEVICE) for key in keys}


def test_a_recording_begins_with_a_snapshot_and_needs_nothing_else(recorded):
    publisher, there = recorded.publisher()
    publisher.publish((stored(None, *range(1, 101)),))
    publisher.publish((removed(100), stored(50, 500)))
    capture = recorded.capture(there)
    recorded.until(lambda: capture.is_based)
    publisher.publish((stored(500, 501),))
    recorded.until(lambda: recorded.standing.applied_seq == 2)
    recorded.until(lambda: recorded.standing.agreed_seq == 2)
    capture.finish()
    follower, reader = recorded.played_back()
    assert content_of(follower.index, HOLDER) == device(*range(1, 100), 500, 501)
    assert reader.ending is Ending.FINISHED
    assert reader.header.sources == [there]
    (standing,) = follower.standings()
    assert standing == recorded.standing
    assert (standing.state, standing.agreement) == (StreamState.LIVE, Agreement.AGREES)


def test_a_gap_is_mended_in_the_recording_too(recorded):
    publisher, there = recorded.publisher()
    capture = recorded.capture(there)
    recorded.until(lambda: recorded.standing.agreement is Agreement.AGREES)  # a heartbeat came
    publisher.publish((stored(None, 1),))
    recorded.until(lambda: recorded.standing.applied_seq == 0)
    publisher.publish((stored(1, 2),))
    lose_a_batch(capture._links[0].connection.events)
    recorded.until(lambda: recorded.standing.applied_seq == 1)
    recorded.until(lambda: recorded.standing.agreed_seq == 1)
    capture.finish()
    follower, _ = recorded.played_back()
    assert content_of(follower.index, HOLDER) == device(1, 2)
    assert recorded.standing.gaps == 1
    assert follower.standings() == [recorded.standing]


def test_a_worker_that_restarts_elsewhere_is_followed_there(recorded):
    publisher, there = recorded.publisher()
    publisher.publish((stored(None, 1, 2),))
    capture = recorded.capture(there)
    recorded.until(lambda: recorded.standing.applied_seq == 0)
    publisher.stop()
    second, elsewhere = recorded.publisher(incarnation=2)
    second.publish((stored(None, 7),))
    capture.listen_to([elsewhere])
    recorded.until(lambda: recorded.standing.applied_seq == 0)
    assert recorded.standing.epoch == elsewhere.epoch
    capture.listen_to([elsewhere])  # nothing new
    capture.finish()
    follower, reader = recorded.played_back()
    assert content_of(follower.index, HOLDER) == device(7)
    assert reader.n_sources == 2


def test_a_worker_that_is_gone_leaves_the_recording(recorded):
    _, there = recorded.publisher()
    capture = recorded.capture(there)
    recorded.until(lambda: capture.is_based)
    capture.listen_to([])
    assert capture.standings() == []
    capture.finish()
    assert recorded.played_back()[0].standings() == []


def test_a_foreign_engine_is_recorded_frame_for_frame(recorded):
    context = zmq.Context()
    engine = context.socket(zmq.PUB)
    port = engine.bind_to_random_port("tcp://127.0.0.1")
    there = source("vllm", b"", wire=Wire.FOREIGN, events=f"tcp://127.0.0.1:{port}", control="")
    capture = recorded.capture(there)

    def sends_until_heard():
        engine.send_multipart([b"kv-events", b"\0" * 8, b"\xff anything"])
        return capture.counters.messages > 2

    recorded.until(sends_until_heard)
    context.destroy(linger=0)
    capture.finish()
    frames = [p.record.frames for p in reader_of(recorded.file) if hasattr(p.record, "frames")]
    assert frames[0] == [b"kv-events", b"\0" * 8, b"\xff anything"]


def test_an_address_that_is_none_is_said(recorded):
    with pytest.raises(LocalEventError, match="an address is tcp://HOST:PORT"):
        recorded.taken = Capture(io.BytesIO(), [source(events="nowhere")], by="")
    recorded.capture()


def test_what_is_recorded_is_on_disk_within_a_second(recorded):
    class File(io.BytesIO):
        flushes = 0

        def flush(self):
            self.flushes += 1

    now = [0]
    file = File()
    recorded.taken = Capture(file, [], by="", now_ns=lambda: now[0])
    for now[0] in range(0, 10_000_000_001, 500_000_000):
        recorded.taken.turn(0)
    assert file.flushes == 10


def lose_a_batch(socket):
    """Takes messages away, up to and with the next batch."""
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
    while socket.recv_multipart()[0] != TOPIC_BATCH:
        pass
