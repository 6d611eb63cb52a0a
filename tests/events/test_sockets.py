"""Publisher and subscriber over real sockets on loopback."""

import queue
import socket
import threading
import time
from typing import Any

import pytest
import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.session.states import StreamState
from radixroute.events.settings import PublisherSettings
from radixroute.events.subscribe.subscriber import EventSubscriber
from radixroute.events.wire.control import Endpoints, Malformed
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.records import EventBatch, Heartbeat, LoadReport, SessionLoad
from radixroute.radix.ids import Holder, WorkerId
from tests.events.fakes import HOLDER, keys, removed, stored
from tests.events.receiver import PATIENCE_S, Receiver

# Short beats, so that the tests wait little.
FAST = PublisherSettings(heartbeat_interval_s=0.02, snapshot_part_blocks=16)


def make_publisher(started, incarnation=1, settings=FAST):
    epoch = make_epoch(incarnation, b"noncenon")
    publisher = started(EventPublisher(epoch, settings))
    publisher.start()
    return publisher, epoch


def make_receiver(started, **settings) -> Receiver:
    receiver = Receiver(**settings)
    started(receiver.subscriber)
    return receiver


def test_a_late_joiner_gets_a_snapshot_then_follows(started):
    publisher, epoch = make_publisher(started)
    publisher.publish((stored(None, *range(1, 101)),))
    publisher.publish((removed(100), stored(50, 500)))
    wait_for(lambda: publisher.stream_counters.sent == 2)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    assert receiver.index == {*range(1, 100), 500}
    assert receiver.session.counters.snapshots_applied == 1
    publisher.publish((stored(500, 501),))
    receiver.until(lambda: 501 in receiver.index)
    receiver.session.check()


def test_an_idle_publisher_is_heard(started):
    publisher, epoch = make_publisher(started)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    assert publisher.is_alive
    assert receiver.index == set()


def test_a_killed_worker_goes_stale_and_comes_back_empty_under_its_new_epoch(started):
    publisher, epoch = make_publisher(started)
    receiver = make_receiver(started)
    publisher.publish((stored(None, 1, 2, 3),))
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.index == {1, 2, 3})
    ports = [int(e.rpartition(":")[2]) for e in vars_of(publisher.endpoints)]
    publisher.stop()
    receiver.until(lambda: receiver.session.state is StreamState.STALE)
    again = PublisherSettings(
        heartbeat_interval_s=0.02, events_port=ports[0], control_port=ports[1]
    )
    second, new_epoch = make_publisher(started, 2, again)
    second.publish((stored(None, 7),))
    receiver.until(lambda: receiver.session.counters.foreign > 3)
    assert receiver.index == {1, 2, 3}  # nothing of an epoch that was not confirmed
    receiver.join(second, new_epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    receiver.until(lambda: receiver.index == {7})


def test_a_rogue_publisher_is_reported_and_hurts_only_itself(started):
    publisher, epoch = make_publisher(started)
    rogue_holder = Holder(WorkerId("rogue"), 0)
    receiver = make_receiver(started)
    context = zmq.Context()
    rogue = context.socket(zmq.PUB)
    port = rogue.bind_to_random_port("tcp://127.0.0.1")
    receiver.subscriber.add(rogue_holder, Endpoints(f"tcp://127.0.0.1:{port}", "tcp://127.0.0.1:9"))
    receiver.join(publisher, epoch)
    publisher.publish((stored(None, 1),))
    garbage = ([b"rr1"], [b"rr1", b"x", b"y"], [b"rr1.hb", b"\x91" * 50_000], [b"rr1"] * 50)

    def is_reported() -> bool:
        for frames in garbage:
            rogue.send_multipart(frames)
        reported = [d for d in receiver.seen if isinstance(d.item, Malformed)]
        assert all(delivery.holder == rogue_holder for delivery in reported)
        receiver.seen = [d for d in receiver.seen if d.holder == rogue_holder]
        return len(reported) > 10

    try:
        receiver.until(is_reported)
        receiver.until(lambda: receiver.index == {1})
    finally:
        context.destroy(linger=0)
    assert receiver.session.state is StreamState.LIVE
    assert receiver.subscriber.counters.malformed > 10


def test_garbage_on_the_control_socket_is_counted_and_ignored(started):
    publisher, epoch = make_publisher(started)
    context = zmq.Context()
    rogue = context.socket(zmq.DEALER)
    rogue.connect(publisher.endpoints.control)
    try:
        for frames in ([b""], [b"rr1.replay", b"\xff"], [b"rr1.replay"] * 9, [b"x" * 3000]):
            rogue.send_multipart(frames)
        wait_for(lambda: publisher.counters.malformed_requests == 4)
    finally:
        context.destroy(linger=0)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)


def test_one_peer_has_one_transfer_at_a_time(started):
    settings = PublisherSettings(heartbeat_interval_s=0.02, snapshot_part_blocks=1)
    publisher, _ = make_publisher(started, settings=settings)
    publisher.publish((stored(None, *range(1, 5001)),))
    wait_for(lambda: publisher.stream_counters.sent == 1)
    context = zmq.Context()
    peer = context.socket(zmq.DEALER)
    peer.connect(publisher.endpoints.control)
    try:
        for _ in range(20):
            peer.send_multipart([b"rr1.snapshot"])
        wait_for(lambda: publisher.counters.refused_requests > 0)
        parts = 0
        while peer.poll(1000):
            peer.recv_multipart()
            parts += 1
        assert parts >= 5000
        assert parts < 20 * 5000
    finally:
        context.destroy(linger=0)


def test_batches_lost_on_the_way_come_back_by_resend(started):
    publisher, epoch = make_publisher(started)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    snapshots = receiver.session.counters.snapshots_applied
    receiver.subscriber.remove(HOLDER)
    for key in range(1, 21):
        publisher.publish((stored(None, key),))
    wait_for(lambda: publisher.stream_counters.sent == 20)
    receiver.subscriber.add(HOLDER, publisher.endpoints)
    receiver.until(lambda: len(receiver.index) == 20)
    assert receiver.session.counters.resends_requested >= 1
    assert receiver.session.counters.snapshots_applied == snapshots


def test_ranks_share_their_sockets_and_nothing_else(started):
    publisher, epoch = make_publisher(started)
    publisher.add_ranks(2)
    publisher.publish((stored(None, *range(1, 41)),), rank=1)
    publisher.publish((stored(None, 7),))
    wait_for(lambda: publisher.stream_counters.sent == 2)
    ranks = [make_receiver(started, rank=rank) for rank in range(2)]
    for receiver in ranks:
        receiver.join(publisher, epoch)
        receiver.until(lambda one=receiver: one.session.state is StreamState.LIVE)
    assert [receiver.index for receiver in ranks] == [{7}, {*range(1, 41)}]
    second = ranks[1]
    second.subscriber.remove(second.holder)
    for key in range(50, 60):
        publisher.publish((stored(None, key),), rank=1)
        publisher.publish((stored(None, key + 50),))
    wait_for(lambda: publisher.stream_counters.sent == 22)
    second.subscriber.add(second.holder, publisher.endpoints)
    second.until(lambda: second.index == {*range(1, 41), *range(50, 60)})
    assert second.session.counters.resends_requested >= 1
    assert second.session.counters.snapshots_applied == 1
    with pytest.raises(LocalEventError, match="rank 2"):
        publisher.publish((stored(None, 1),), rank=2)


def test_a_full_queue_costs_sending_but_never_truth(started):
    settings = PublisherSettings(heartbeat_interval_s=0.02, max_queued_batches=8)
    publisher, epoch = make_publisher(started, settings=settings)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    took_s = []
    for key in range(1, 3001):
        began = time.perf_counter()
        publisher.publish((stored(None, key),))
        took_s.append(time.perf_counter() - began)
    receiver.until(lambda: len(receiver.index) == 3000)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)
    counters = publisher.stream_counters
    assert counters.sent + counters.dropped == 3000
    assert counters.dropped > 0
    assert sorted(took_s)[2970] < 0.05  # p99: this thread may well be stopped once or twice


def test_a_consumer_that_stands_still_sees_a_gap_not_a_stall(started):
    publisher, epoch = make_publisher(started)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    is_open = threading.Event()
    receiver = make_receiver(
        started,
        call_soon=lambda call: call() if is_open.is_set() else waiting.put(call),
        max_queued_items=50,
    )
    receiver.join(publisher, epoch)
    wait_for(lambda: waiting.qsize() == 1)  # one hand-over is scheduled, never two
    for key in range(1, 501):
        publisher.publish((stored(None, key),))
    wait_for(lambda: receiver.subscriber.dropped_items > 400)
    assert waiting.qsize() == 1
    is_open.set()
    waiting.get()()
    assert len(receiver.items.get()) == 50  # what was kept; the rest is a gap
    receiver.until(lambda: len(receiver.index) == 500)
    receiver.until(lambda: receiver.session.state is StreamState.LIVE)


def test_heartbeats_carry_the_load_and_age_while_requests_run(started):
    publisher, epoch = make_publisher(started)
    receiver = make_receiver(started)
    busy = LoadReport(1.0, 100, 7, (SessionLoad("r", 3, 2, 10, 5),))
    publisher.report_load(busy)
    receiver.join(publisher, epoch)
    receiver.until(lambda: len(beats(receiver, 7)) >= 4)
    ages = [beat.load.step_age_ms for beat in beats(receiver, 7)]
    assert ages == sorted(ages)
    assert ages[-1] > ages[0] >= 1.0
    assert beats(receiver, 7)[-1].load.sessions == busy.sessions
    publisher.report_load(LoadReport(0.0, 100, 8))
    receiver.until(lambda: len(beats(receiver, 8)) >= 2)
    assert {beat.load.step_age_ms for beat in beats(receiver, 8)} == {0.0}


def test_items_are_handed_over_where_the_caller_wants_them(started):
    publisher, _ = make_publisher(started)
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threads = []
    subscriber = started(
        EventSubscriber(lambda items: threads.append(threading.current_thread()), calls.put)
    )
    subscriber.start()
    subscriber.add(HOLDER, publisher.endpoints)
    calls.get(timeout=PATIENCE_S)()
    assert threads == [threading.current_thread()]


def test_a_closed_loop_ends_the_hand_over_quietly(started):
    publisher, _ = make_publisher(started)

    def closed(call):
        raise RuntimeError("Event loop is closed")

    subscriber = started(EventSubscriber(lambda items: None, closed))
    subscriber.start()
    subscriber.add(HOLDER, publisher.endpoints)
    wait_for(lambda: subscriber.dropped_items > 2)


def test_an_endpoint_that_cannot_be_connected_is_reported(started):
    receiver = make_receiver(started)
    receiver.subscriber.add(HOLDER, Endpoints("nonsense://", "tcp://127.0.0.1:9"))
    receiver.until(lambda: any(isinstance(d.item, Malformed) for d in receiver.seen))
    receiver.subscriber.request_snapshot(HOLDER)
    wait_for(lambda: receiver.subscriber.counters.unsent_requests == 1)


def test_a_taken_port_is_the_callers_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = PublisherSettings(events_port=taken.getsockname()[1])
        publisher = EventPublisher(make_epoch(1, bytes(8)), settings)
        with pytest.raises(LocalEventError, match="cannot bind"):
            publisher.start()


def test_a_wide_bind_needs_saying_so():
    epoch = make_epoch(1, bytes(8))
    with pytest.raises(LocalEventError, match="insecure_bind"):
        EventPublisher(epoch, PublisherSettings(host="0.0.0.0"))
    settings = PublisherSettings(host="0.0.0.0", insecure_bind=True, advertise_host="10.1.2.3")
    publisher = EventPublisher(epoch, settings)
    publisher.start()
    try:
        assert publisher.endpoints.events.startswith("tcp://10.1.2.3:")
    finally:
        publisher.stop()


def test_starting_twice_or_asking_too_early_is_our_error(started):
    publisher = EventPublisher(make_epoch(1, bytes(8)), FAST)
    with pytest.raises(LocalEventError):
        _ = publisher.endpoints
    started(publisher).start()
    with pytest.raises(LocalEventError):
        publisher.start()
    publisher.stop()
    publisher.stop()
    publisher.publish((stored(None, 1),))
    publisher.publish(())
    assert publisher.counters.after_stop == 1
    subscriber = started(EventSubscriber(lambda items: None))
    subscriber.start()
    with pytest.raises(LocalEventError):
        subscriber.start()


def test_a_stop_sends_what_is_queued(started):
    publisher, epoch = make_publisher(started)
    receiver = make_receiver(started)
    receiver.join(publisher, epoch)
    # A snapshot may come before the subscription counts; a heartbeat comes through it.
    receiver.until(lambda: any(isinstance(d.item, Heartbeat) for d in receiver.seen))
    publisher.publish((stored(None, *keys(1, 2).tolist()),))
    publisher.stop()
    receiver.until(lambda: any(isinstance(d.item, EventBatch) for d in receiver.seen))
    assert receiver.index == {1, 2}


def beats(receiver, used: int) -> list[Heartbeat]:
    items = [delivery.item for delivery in receiver.seen]
    return [i for i in items if isinstance(i, Heartbeat) and i.load.kv_blocks_used == used]


def vars_of(endpoints: Endpoints) -> tuple[str, str]:
    return endpoints.events, endpoints.control


def wait_for(is_reached) -> None:
    """Another thread reaches the condition soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
