"""Foreign engines recorded over loopback: what was missed is asked for, and the file has it all."""

import io
import random
import time
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.events.recording.capture import Capture
from radixroute.events.recording.follower import StreamFollower
from radixroute.events.recording.listing import listed
from radixroute.events.recording.recorded import AtEnd, AtRecord
from radixroute.events.recording.recording import Channel, Message, RecordedScope, Wire
from radixroute.events.session.states import StreamState
from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.radix.ids import Tier
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from tests.events.engine_sockets import EngineSockets
from tests.events.engines import END, LAYOUTS, SCOPE, FakeEngine
from tests.events.recordings import content_of, reader_of, recorder_of, source
from tests.events.test_vllm_frames import frames_of, lines

PATIENCE_S = 30.0
ALL = 10**9
RECORDED = RecordedScope(model_fingerprint=SCOPE.model_fingerprint, kv_dtype=SCOPE.kv_dtype)
layouts = pytest.mark.parametrize("before_seq", LAYOUTS.values(), ids=LAYOUTS)


class Recording:
    """Engines, one capture of one of them, and what its file amounts to."""

    def __init__(self):
        self.file = io.BytesIO()
        self._running = []
        self._capture: Any = None

    def engine(self, replay, **ports):
        self._running.append(EngineSockets(replay, **ports))
        return self._running[-1]

    def compat(self, size):
        self._running.append(CompatPublisher(size))
        self._running[-1].start()
        return self._running[-1]

    def drop(self, engine):
        self._running.remove(engine)
        engine.stop()

    def begin(self, there):
        self._capture = Capture(self.file, [there], by="a test", scope=RECORDED)
        return self._capture

    def turn(self):
        for one in self._running:
            if isinstance(one, EngineSockets):
                one.serve()
        self._capture.turn(5)

    def until(self, is_reached):
        deadline = time.monotonic() + PATIENCE_S
        while not is_reached():
            assert time.monotonic() < deadline, self._capture.standings()
            self.turn()

    @property
    def standing(self):
        (standing,) = self._capture.standings()
        return standing

    def until_applied(self, seq):
        self.until(lambda: self.standing.applied_seq == seq)

    def read(self):
        """A follower of what is in the file, which ends as the one that recorded did."""
        self._capture.finish()
        reader = reader_of(self.file)
        follower = StreamFollower(reader.header)
        for place in reader:
            follower.follow(place.record)
        follower.check()
        assert follower.standings() == self._capture.standings()
        return follower

    def kinds(self):
        entries = listed(reader_of(self.file), source=None, start=AtRecord(0), stop=AtEnd())
        return [one.kind for one in entries]

    def stop(self):
        if self._capture is not None:
            self._capture.close()
        for one in self._running:
            one.stop()


@pytest.fixture
def recording():
    recording = Recording()
    yield recording
    recording.stop()


def held(follower):
    (standing,) = follower.standings()
    return content_of(follower.index, standing.holder)


def truth_of(engine):
    return set(engine.ranks[0].truth())


@layouts
def test_batches_that_were_lost_are_asked_for_and_recorded(recording, before_seq):
    engine = FakeEngine(random.Random(5), 1, ALL, before_seq)
    sockets = recording.engine(engine.replay)
    for _ in range(20):
        engine.step()  # before anybody listened
    capture = recording.begin(sockets.source)
    recording.until(lambda: capture.is_based)
    assert (recording.standing.applied_seq, recording.standing.gaps) == (19, 0)
    recording.until(sockets.is_heard)
    for seq in range(20, 60):
        frames = engine.step()
        if seq % 7 and seq % 8:
            sockets.publish(frames)
    recording.until_applied(59)
    follower = recording.read()
    assert held(follower) == truth_of(engine)
    assert (recording.standing.known_from, recording.standing.state) == (0, StreamState.LIVE)
    kinds = recording.kinds()
    assert kinds.count("gap") >= kinds.count("mended") >= 1
    assert kinds[::-1].index("mended") < kinds[::-1].index("gap")
    assert kinds.count("asked") == len(sockets.requests) >= 2
    assert "lost" not in kinds


@layouts
def test_what_the_engine_no_longer_keeps_is_said_and_not_believed(recording, before_seq):
    engine = FakeEngine(random.Random(6), 1, 5, before_seq)
    sockets = recording.engine(engine.replay)
    for _ in range(20):
        engine.step()
    capture = recording.begin(sockets.source)
    recording.until(lambda: capture.is_based)
    assert recording.standing.known_from == 15
    recording.until(sockets.is_heard)
    for _ in range(9):
        engine.step()  # lost, and but five are kept
    sockets.publish(engine.step())
    recording.until_applied(29)
    assert recording.standing.known_from == 25
    assert not held(recording.read()) - truth_of(engine)
    assert recording.kinds().count("lost") == 2


def test_an_engine_that_hangs_up_begins_anew_though_its_seq_goes_on(recording):
    """The next life's numbers go on where the recording stands: nothing else marks it."""
    first, second = FakeEngine(random.Random(1), 1, ALL), FakeEngine(random.Random(2), 1, ALL)
    sockets = recording.engine(first.replay)
    recording.begin(sockets.source)
    recording.until(sockets.is_heard)
    for _ in range(5):
        sockets.publish(first.step())
    recording.until_applied(4)
    recording.drop(sockets)
    for _ in range(10):
        second.step()
    again = recording.engine(second.replay, ports=sockets.ports)
    recording.until(again.is_heard)
    again.publish(second.step())
    recording.until_applied(10)
    assert held(recording.read()) == truth_of(second)
    assert recording.standing.known_from == 0


@pytest.mark.parametrize("beyond", [1, 3])
def test_an_engine_without_a_replay_socket_is_known_from_where_it_was_heard(recording, beyond):
    engine = FakeEngine(random.Random(7), 1, ALL)
    sockets = recording.engine(engine.replay)
    for _ in range(3):
        engine.step()
    capture = recording.begin(msgspec.structs.replace(sockets.source, control=""))
    assert not capture.is_based  # nobody was heard yet
    recording.until(sockets.is_heard)
    sockets.publish(engine.step())
    recording.until_applied(3)
    assert capture.is_based
    assert recording.standing.known_from == 3
    for _ in range(beyond):
        frames = engine.step()
    sockets.publish(frames)
    recording.until_applied(3 + beyond)
    assert recording.standing.known_from == (3 if beyond == 1 else 6)
    assert not held(recording.read()) - truth_of(engine)
    assert sockets.requests == []


def test_what_an_engine_says_and_nobody_can_believe_is_told_by_reason(recording):
    """It came to 0 blocks, 0 rejected and no reason (E14)."""
    sockets = recording.engine(lambda _: [])
    recording.begin(msgspec.structs.replace(sockets.source, control=""))
    recording.until(sockets.is_heard)
    block = {"type": "BlockStored", "parent_block_hash": None, "block_size": 4, "medium": "GPU"}
    adapter = {**block, "block_hashes": [1, 2], "token_ids": [*range(8)], "lora_id": 1}
    image = {**block, "block_hashes": [3, 4], "token_ids": [*range(8)]}
    image["extra_keys"] = [[["img-abc", 0]], None]
    sockets.publish([b"kv", bytes(8), msgpack.packb([1.0, [adapter, image], 0])])
    recording.until_applied(0)
    assert recording.standing.dropped == {"unnamed_loras": 1, "content_blocks": 2}
    (standing,) = recording.read().standings()
    assert standing.dropped == recording.standing.dropped


@layouts
def test_frames_of_a_real_vllm_lost_on_the_way_lead_to_what_all_of_them_do(recording, before_seq):
    batches = [frames_of(line) for line in lines("pub", "evict")]

    def replay(request):
        kept = [frames[1:] for frames in batches if frames[1] >= request[1]]
        end = [b"", *(b"" for _ in before_seq), END, b""]
        return [*([b"", *before_seq, *frames] for frames in kept), end]

    recorder, whole = recorder_of(recording.engine(replay).source, scope=RECORDED)
    for frames in batches:
        recorder.message(0, 0, Channel.EVENTS, frames)
    expected = StreamFollower(reader_of(whole).header)
    for place in reader_of(whole):
        expected.follow(place.record)
    sockets = recording.engine(lambda request: replay(request)[-1:])  # keeps nothing yet
    recording.begin(sockets.source)
    recording.until(lambda: sockets.requests and sockets.is_heard())
    sockets.answer = replay
    for frames in (batches[1], batches[-1]):
        sockets.publish(frames)
    recording.until_applied(len(batches) - 1)
    assert len(sockets.requests) > 1
    assert held(recording.read()) == held(expected)
    assert held(expected)


def test_our_own_compat_endpoint_is_recorded_whole_whatever_is_lost(recording):
    size = 16
    scope = Scope(RECORDED.model_fingerprint, size, RECORDED.kv_dtype)
    rng = np.random.default_rng(3)
    publisher = recording.compat(size)
    chains = []

    def publish() -> None:
        tokens = rng.integers(0, 50_000, 4 * size, dtype=np.uint32)
        chains.append(block_keys(tokens, size, scope.seed))
        gone = (BlocksRemoved(chains[-3][2:], Tier.DEVICE),) if len(chains) > 2 else ()
        publisher.publish((*gone, BlocksStored(None, chains[-1], tokens=tokens)))

    for _ in range(10):
        publish()
    ends = publisher.endpoints
    there = source("c", b"", wire=Wire.FOREIGN, events=ends.events, control=ends.control)
    capture = recording.begin(there)
    recording.until_applied(9)
    events = capture._links[0].connection.events
    for _ in range(5):
        lose_one(events, publish)
        publish()
    recording.until_applied(len(chains) - 1)
    expected = {(key, Tier.DEVICE) for chain in chains for key in chain[:2].tolist()}
    expected |= {(key, Tier.DEVICE) for chain in chains[-2:] for key in chain.tolist()}
    assert held(recording.read()) == expected
    assert recording.standing.gaps >= 1
    assert recording.standing.known_from == 0
    channels = [
        place.record.channel
        for place in reader_of(recording.file)
        if isinstance(place.record, Message)
    ]
    assert channels.count(Channel.REQUESTS) >= 2
    assert channels[0] is Channel.REQUESTS


def lose_one(events, publish) -> None:
    """Publishes until a batch comes, and takes it away."""
    deadline = time.monotonic() + PATIENCE_S
    publish()
    while not events.poll(100):
        assert time.monotonic() < deadline
        publish()
    events.recv_multipart()
