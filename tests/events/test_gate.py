"""Events for whoever was let in: by the key a router told, and for nobody else."""

import pytest
import zmq

from radixroute.events.net.gate import MAX_ADMITTED, EventGate
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.session.states import StreamState
from radixroute.events.settings import PublisherSettings, SubscriberSettings
from radixroute.events.subscribe.connection import Connection, listening_context
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import MAX_PAYLOAD_BYTES, TOPIC_BATCH
from radixroute.trust.event_keys import EventKeys, raw_key
from tests.events.fakes import stored
from tests.events.receiver import Receiver

# Bound as widely as a cluster's would be: behind a gate that needs no other leave.
WIDE = PublisherSettings(host="0.0.0.0", advertise_host="127.0.0.1", heartbeat_interval_s=0.02)
EPOCH = make_epoch(1, b"noncenon")
SILENCE_MS = 300


@pytest.fixture
def gated():
    gate = EventGate(EventKeys.new())
    publisher = EventPublisher(EPOCH, WIDE, gate)
    publisher.start()
    yield gate, publisher
    publisher.stop()


def hears(endpoints: Endpoints, keys: EventKeys | None) -> bool:
    """Whether somebody with these keys gets one heartbeat."""
    settings = SubscriberSettings(keys=keys)
    context = listening_context(settings)
    try:
        connection = Connection(
            context,
            endpoints,
            settings,
            topic=TOPIC_BATCH,
            max_bytes=MAX_PAYLOAD_BYTES,
        )
        return bool(connection.events.poll(SILENCE_MS, zmq.POLLIN))
    finally:
        context.destroy(linger=0)


def test_who_was_let_in_follows_the_stream(gated):
    gate, publisher = gated
    keys = EventKeys.new()
    receiver = Receiver(keys=keys)
    try:
        assert gate.admit(keys.public)
        publisher.publish((stored(None, *range(1, 101)),))
        receiver.join(publisher, EPOCH)
        receiver.until(lambda: receiver.session.state is StreamState.LIVE)
        receiver.until(lambda: receiver.index == set(range(1, 101)))  # control answers, too
    finally:
        receiver.subscriber.stop()


def test_nobody_else_hears_a_word(gated):
    gate, publisher = gated
    known = EventKeys.new()
    gate.admit(known.public)
    there = publisher.endpoints
    assert hears(there, known)
    assert not hears(there, EventKeys.new())
    assert gate.refused
    assert not hears(Endpoints(there.events, there.control), None)  # in the clear
    wrong = Endpoints(there.events, there.control, EventKeys.new().public)
    assert not hears(wrong, known)  # nor is another publisher taken for this one


def test_what_is_no_key_is_none_and_what_is_kept_is_bounded():
    gate = EventGate(EventKeys.new())
    for wrong in (b"", b"short", b"\xff" * 40, b'"' * 40, b"#" * 40):
        raw = raw_key(wrong)
        assert raw is None or len(raw) == 32
        assert gate.admit(wrong) == (raw is not None)
    first = EventKeys.new().public
    assert gate.admit(first)
    for number in range(MAX_ADMITTED):
        gate.admit(f"{number:040d}".encode())
    assert len(gate._admitted) <= MAX_ADMITTED
    assert raw_key(first) not in gate._admitted
