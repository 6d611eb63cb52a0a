"""A router's receiving half over real sockets, for tests."""

import queue
import time
from typing import Any

from radixroute.events.session.actions import RequestResend, RequestSnapshot
from radixroute.events.settings import SessionSettings, SubscriberSettings
from radixroute.events.subscribe.subscriber import EventSubscriber
from radixroute.events.wire.control import Delivery
from radixroute.radix.ids import Holder
from tests.events.fakes import HOLDER, RouterEnd

PATIENCE_S = 30.0


class Receiver:
    """A router's receiving half: subscriber, session, plain index; driven by the test's thread."""

    def __init__(self, call_soon=lambda call: call(), rank=0, **settings) -> None:
        self.holder = Holder(HOLDER.worker, rank)
        self.items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.seen: list[Delivery] = []
        self.subscriber = EventSubscriber(
            lambda deliveries: self.items.put(deliveries),
            call_soon,
            settings=SubscriberSettings(**settings),
        )
        self.router = RouterEnd(settings=SessionSettings(stale_after_s=0.5), rank=rank)
        self.session = self.router.session
        self.subscriber.start()

    @property
    def index(self):
        return {key for key, _ in self.router.index}

    def join(self, publisher, epoch) -> None:
        self.subscriber.add(self.holder, publisher.endpoints)
        self._carry_out(self.session.confirm_epoch(epoch, time.monotonic_ns()))

    def until(self, is_reached) -> None:
        """Handles what arrives until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_reached():
            assert time.monotonic() < deadline, (self.session.state, self.session.counters)
            self._carry_out(self.session.tick(time.monotonic_ns()))
            try:
                deliveries = self.items.get(timeout=0.02)
            except queue.Empty:
                continue
            for delivery in deliveries:
                self.seen.append(delivery)
                if delivery.holder == self.holder:
                    self._carry_out(self.session.deliver(delivery.item, time.monotonic_ns()))

    def _carry_out(self, actions) -> None:
        self.router.carry_out(actions)
        for asked in self.router.asked:
            if isinstance(asked, RequestSnapshot):
                self.subscriber.request_snapshot(self.holder)
            elif isinstance(asked, RequestResend):
                self.subscriber.request_resend(self.holder, asked.from_seq, asked.to_seq)
        self.router.asked.clear()
