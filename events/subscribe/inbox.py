"""The bounded queue between what the subscriber receives and whoever consumes it."""

import threading
from collections import deque
from collections.abc import Callable

from radixroute.events.settings import SubscriberSettings
from radixroute.events.wire.control import Delivery


class Inbox:
    """`call` and `flush` on the subscriber's thread; `on_items` runs where `call_soon` puts it.

    Hand-over is scheduled at most once at a time, and each hands over a bounded part: what else the
    consumer's thread has to do has its turn before the next. What can wait is handed over with what
    comes after it, or by `hand_over`. What does not fit is dropped and counted.
    """

    def __init__(
        self,
        on_items: Callable[[list[Delivery]], None],
        call_soon: Callable[[Callable[[], None]], object],
        settings: SubscriberSettings,
        collect: Callable[[], None] | None = None,
    ) -> None:
        """`collect`: puts what came since, before each hand-over and where that runs."""
        self._on_items = on_items
        self._collect = collect
        self._call_soon = call_soon
        self._settings = settings
        self._lock = threading.Lock()
        self._items: deque[tuple[Delivery, int]] = deque()
        self._n_bytes = 0
        self._is_due = False  # something is queued that does not wait
        self._is_scheduled = False
        self._is_closed = False
        self.dropped = 0

    def put(self, delivery: Delivery, n_bytes: int, *, waits: bool = False) -> None:
        """Queues an item; the frames it was decoded from had `n_bytes`."""
        with self._lock:
            is_full = (
                len(self._items) >= self._settings.max_queued_items
                or self._n_bytes + n_bytes > self._settings.max_queued_bytes
            )
            if is_full or self._is_closed:
                self.dropped += 1
                return
            self._items.append((delivery, n_bytes))
            self._n_bytes += n_bytes
            self._is_due = self._is_due or not waits

    def flush(self) -> None:
        """Schedules the hand-over of what is queued, unless all of it can wait."""
        if self._is_due:
            self.call()

    def call(self) -> None:
        """Schedules a hand-over, if only of what it will collect."""
        with self._lock:
            if self._is_scheduled or self._is_closed:
                return
            self._is_scheduled = True
        try:
            self._call_soon(self._hand_over)
        except RuntimeError:
            if not self._is_scheduled:
                raise  # the hand-over ran at once and the consumer failed
            # The consumer's loop is closed: there is nobody to deliver to any more.
            self._is_closed = True

    def hand_over(self) -> None:
        """What waits, now. On the consumer's thread."""
        if not self._items or self._is_scheduled:
            return  # then it comes with the others
        self._hand_over()

    def _hand_over(self) -> None:
        try:
            if self._collect is not None:
                self._collect()
        finally:
            self._is_scheduled = False
        with self._lock:
            items = self._take_turn()
        try:
            if items:
                self._on_items(items)
        finally:
            self.flush()

    def _take_turn(self) -> list[Delivery]:
        settings = self._settings
        items: list[Delivery] = []
        taken = 0
        while self._items and len(items) < settings.turn_items:
            delivery, n_bytes = self._items[0]
            if items and taken + n_bytes > settings.turn_bytes:
                break
            self._items.popleft()
            items.append(delivery)
            taken += n_bytes
        self._n_bytes -= taken
        self._is_due = bool(self._items)
        return items
