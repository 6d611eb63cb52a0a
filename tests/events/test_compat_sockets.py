"""The compat publisher over real sockets: replays, slow and dead subscribers, its binds."""

import time

import numpy as np
import pytest
import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.records import BlocksStored
from tests.events import strict_vllm
from tests.events.fakes import keys

SIZE = 4


def make_publisher(started, **settings):
    publisher = started(CompatPublisher(SIZE, settings=PublisherSettings(**settings)))
    publisher.start()
    return publisher


def batch(number, n_blocks=1):
    """Stored blocks that no other batch has."""
    first = number * 1000 + 1
    tokens = np.arange(n_blocks * SIZE, dtype=np.uint32)
    return (BlocksStored(None, keys(*range(first, first + n_blocks)), tokens=tokens),)


def wait_for(is_reached):
    deadline = time.monotonic() + strict_vllm.PATIENCE_S
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def publish_until_heard(publisher, subscriber):
    """The number of batches it took until the subscription worked."""
    for number in range(1000):
        publisher.publish(batch(number))
        if subscriber.receive(0.02) is not None:
            return number + 1
    raise AssertionError("nothing was received")


def test_a_late_subscriber_gets_the_rest_by_replay(started):
    publisher = make_publisher(started)
    for number in range(20):
        publisher.publish(batch(number))
    wait_for(lambda: publisher.counters.sent == 20)
    subscriber = started(strict_vllm.Subscriber(publisher.endpoints))
    seqs = [strict_vllm.decode(frames)[0] for frames in subscriber.replay(5)]
    assert seqs == list(range(5, 20))
    assert subscriber.replay(2**64 - 1) == []
    assert publisher.counters.malformed_requests == 0


def test_a_req_socket_is_answered_too(started):
    """What vLLM's own test subscriber used: it gets the first batch and no more."""
    publisher = make_publisher(started)
    publisher.publish(batch(0))
    wait_for(lambda: publisher.counters.sent == 1)
    context = zmq.Context()
    try:
        asking = context.socket(zmq.REQ)
        asking.connect(publisher.endpoints.control)
        asking.send(bytes(8))
        assert asking.poll(int(strict_vllm.PATIENCE_S * 1000))
        assert strict_vllm.decode(asking.recv_multipart())[0] == 0
    finally:
        context.destroy(linger=0)


def test_malformed_requests_are_counted_and_harm_nobody(started):
    publisher = make_publisher(started)
    publisher.publish(batch(0))
    subscriber = started(strict_vllm.Subscriber(publisher.endpoints))
    for frames in ([b"x"], [b"", b"7"], [b"", bytes(8), b""], [b""] * 20):
        subscriber.control.send_multipart(frames)
    wait_for(lambda: publisher.counters.malformed_requests == 4)
    assert len(subscriber.replay(0)) == 1


def test_what_the_queue_cannot_hold_is_counted_and_leaves_a_gap(started):
    publisher = started(CompatPublisher(SIZE, settings=PublisherSettings(max_queued_batches=3)))
    for number in range(5):  # nobody sends yet
        publisher.publish(batch(number))
    assert publisher.counters.dropped == 2
    publisher.start()
    wait_for(lambda: publisher.counters.sent == 3)
    publisher.publish(batch(5))
    wait_for(lambda: publisher.counters.sent == 4)
    subscriber = started(strict_vllm.Subscriber(publisher.endpoints))
    seqs = [strict_vllm.decode(frames)[0] for frames in subscriber.replay(0)]
    assert seqs == [0, 1, 2, 5]


def test_a_dead_subscriber_blocks_nobody_and_its_loss_shows(started):
    publisher = make_publisher(started, send_high_water_mark=4, max_queued_batches=100_000)
    dead = started(strict_vllm.Subscriber(publisher.endpoints, receive_high_water_mark=4))
    n_before = publish_until_heard(publisher, dead)
    # More than all buffers on the way hold: 600 batches of 100 KB.
    big = batch(0, 12_000)[0]
    took_s = []
    for _ in range(600):
        began = time.perf_counter()
        publisher.publish((big,))
        took_s.append(time.perf_counter() - began)
    assert sorted(took_s)[593] < 0.1  # p99: this thread may well be stopped once or twice
    n_all = n_before + 600
    wait_for(lambda: publisher.counters.sent == n_all)
    assert publisher.counters.overruns >= 1
    assert publisher.counters.dropped == 0
    got = []
    while (frames := dead.receive(0.5)) is not None:
        got.append(int.from_bytes(frames[1], "big"))
    publisher.publish(batch(1))  # it reads again: what comes next shows what is missing
    frames = dead.receive(strict_vllm.PATIENCE_S)
    assert frames is not None
    assert int.from_bytes(frames[1], "big") == n_all
    assert got[-1] < n_all - 1


def test_a_dead_subscriber_costs_the_others_nothing(started):
    publisher = make_publisher(started, send_high_water_mark=4)
    dead = started(strict_vllm.Subscriber(publisher.endpoints, receive_high_water_mark=4))
    publish_until_heard(publisher, dead)
    alive = started(strict_vllm.Subscriber(publisher.endpoints))
    publish_until_heard(publisher, alive)
    while alive.receive(0.05) is not None:
        pass
    seqs = []
    for _ in range(250):  # in step, so that the living one is never behind
        publisher.publish(batch(0, 12_000))
        frames = alive.receive(strict_vllm.PATIENCE_S)
        assert frames is not None
        seqs.append(int.from_bytes(frames[1], "big"))
    assert publisher.counters.overruns >= 1
    assert seqs == list(range(seqs[0], seqs[0] + 250))


def test_a_wide_bind_needs_saying_so():
    with pytest.raises(LocalEventError, match=r"token ids.*insecure_bind"):
        CompatPublisher(SIZE, settings=PublisherSettings(host="0.0.0.0"))
    CompatPublisher(SIZE, settings=PublisherSettings(host="0.0.0.0", insecure_bind=True))


def test_its_life_is_start_publish_stop(started):
    publisher = CompatPublisher(SIZE)
    with pytest.raises(LocalEventError, match="not been started"):
        _ = publisher.endpoints
    publisher.stop()  # of what never began: nothing
    started(publisher).start()
    assert publisher.is_alive
    with pytest.raises(LocalEventError, match="before"):
        publisher.start()
    publisher.publish(())
    publisher.publish(batch(0))
    publisher.stop()
    assert publisher.counters.sent == 1  # what was queued left first
    publisher.publish(batch(1))
    assert publisher.counters.after_stop == 1
    assert not publisher.is_alive
