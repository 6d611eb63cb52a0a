"""Heartbeats of an idle worker over real sockets: they wait, and wake nobody."""

import queue
import time
from typing import Any

from radixroute.events.subscribe.subscriber import EventSubscriber
from radixroute.events.wire.records import Heartbeat, LoadReport
from tests.events.fakes import HOLDER, stored
from tests.events.receiver import PATIENCE_S
from tests.events.test_sockets import make_publisher, make_receiver, wait_for


def test_heartbeats_that_say_nothing_new_wait_and_say_when_they_came(started):
    publisher, _ = make_publisher(started)
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    came: list[Any] = []
    subscriber = started(EventSubscriber(came.extend, calls.put, holds_repeats=True))
    subscriber.start()
    subscriber.add(HOLDER, publisher.endpoints)
    calls.get(timeout=PATIENCE_S)()
    assert [one.heard_ns for one in came] == [None]
    wait_for(lambda: len(subscriber._inbox._items) >= 3)
    assert calls.empty()
    before_ns = time.monotonic_ns()
    subscriber.hand_over()
    first, *repeats = came
    assert len(repeats) >= 3
    assert {one.item for one in repeats} == {first.item}
    heard = [one.heard_ns for one in repeats]
    assert heard == sorted(heard)
    assert heard[-1] <= before_ns
    wait_for(lambda: len(subscriber._inbox._items) >= 1)
    publisher.report_load(LoadReport(0.0, 100, 8))  # news, which bring along what waits
    calls.get(timeout=PATIENCE_S)()
    assert came[-1].item.load.kv_blocks_used == 8
    assert came[-1].heard_ns is None


def test_a_heartbeat_tells_of_what_was_published_since_the_one_before(started):
    publisher, _ = make_publisher(started)
    receiver = make_receiver(started)
    receiver.subscriber.add(HOLDER, publisher.endpoints)

    def told():
        return {one.item.last_seq for one in receiver.seen if isinstance(one.item, Heartbeat)}

    receiver.until(lambda: None in told())
    for seq in range(2):
        publisher.publish((stored(None, seq + 1),))
        receiver.until(lambda seq=seq: seq in told())
