"""Receives native streams over ZeroMQ, for which a thread of its own waits.

Owns a SUB and a DEALER socket for each holder and the bounded queue towards the consumer. Decodes
what arrives and hands it over in lists; decides nothing: sources do. One socket pair a holder, so
that an item's origin is where it came from and never what it says.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import zmq

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.net.frames import take_frames
from radixroute.events.net.socket_thread import Socket, SocketThread
from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.connection import Connection, listening_context
from radixroute.events.subscribe.inbox import Inbox
from radixroute.events.subscribe.offer import Offer
from radixroute.events.wire.control import (
    Delivery,
    Endpoints,
    Malformed,
    ResendRequest,
    SnapshotRequest,
    StreamItem,
    decode_reply,
    encode_request,
)
from radixroute.events.wire.native import MAX_PAYLOAD_BYTES, TOPIC_BATCH, decode_frames
from radixroute.events.wire.records import Heartbeat
from radixroute.radix.ids import Holder

# What comes in a burst, as the batches of a step do, is handed over together. Far below what a
# prompt takes to compute.
_GATHER_S: Final = 0.001
# Nothing but heartbeats for so long: the next message may be one more, which is no reason to wake
# anybody, so that the thread looks at it first.
_QUIET_S: Final = 0.1


@dataclass(slots=True)
class SubscriberCounters:
    """What the subscriber could not pass on. Counts since it began."""

    malformed: int = 0
    unsent_requests: int = 0  # the holder is unknown or takes nothing: its source asks again


@dataclass(slots=True)
class _Link:
    holder: Holder
    connection: Connection
    beat: Heartbeat | None = None  # the last one
    beat_frames: list[bytes] = field(default_factory=list)


def _at_once(deliver: Callable[[], None]) -> None:
    deliver()


class EventSubscriber:
    """Streams of many holders. All methods may be called from any thread and return at once.

    `on_items` gets lists of deliveries. `call_soon` says where it runs, and where messages are
    received and decoded before: pass `loop.call_soon_threadsafe` to have it on the loop; by default
    it runs on this thread. At most one call is scheduled at a time, and what waits for one that
    does not come is bounded: beyond the bound items are dropped and counted, and their streams see
    gaps.

    `holds_repeats`: a heartbeat that says what the one before said is a proof of life and nothing
    more. It waits for the next item or for `hand_over`, with the time when it came: an idle fleet
    wakes nobody.
    """

    def __init__(
        self,
        on_items: Callable[[list[Delivery]], None],
        call_soon: Callable[[Callable[[], None]], object] = _at_once,
        settings: SubscriberSettings | None = None,
        *,
        holds_repeats: bool = False,
    ) -> None:
        self._settings = settings or SubscriberSettings()
        self._holds_repeats = holds_repeats
        self._quiet_from_s = 0.0
        self._offer = Offer(self._take)
        self._inbox = Inbox(on_items, call_soon, self._settings, self._offer.take)
        self._n_turns = 0
        self._commands: deque[Callable[[], None]] = deque()
        self._thread = SocketThread("event-subscriber")
        self._context = listening_context(self._settings)
        self._links: dict[Holder, _Link] = {}
        self._link_by_socket: dict[Socket, _Link] = {}
        self.counters = SubscriberCounters()

    @property
    def dropped_items(self) -> int:
        """Items lost because the consumer was too slow."""
        return self._inbox.dropped

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start(self._context, self._run)

    def stop(self) -> None:
        """Ends the thread and closes every socket. Idempotent."""
        self._thread.stop()

    def hand_over(self) -> None:
        """Repeated heartbeats that wait. On the consumer's thread alone."""
        self._inbox.hand_over()

    def add(self, holder: Holder, endpoints: Endpoints) -> None:
        """Subscribes to a holder; its old endpoints, if any, are left."""
        self._do(lambda: self._connect(holder, endpoints))

    def remove(self, holder: Holder) -> None:
        """Leaves a holder. Items already decoded may still be delivered."""
        self._do(lambda: self._disconnect(holder))

    def request_resend(self, holder: Holder, from_seq: int, to_seq: int) -> None:
        """Asks for batches again; they arrive like live ones, then a `ResendDone`."""
        frames = encode_request(ResendRequest(from_seq, to_seq))
        self._do(lambda: self._send(holder, frames))

    def request_snapshot(self, holder: Holder) -> None:
        """Asks for everything resident; it arrives as `SnapshotPart` items."""
        self._do(lambda: self._send(holder, encode_request(SnapshotRequest())))

    def _do(self, command: Callable[[], None]) -> None:
        if self._thread.is_stopping:
            return
        self._commands.append(command)
        self._thread.wake()

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._thread.is_stopping:
            has_come = bool(self._thread.wait())
            is_quiet = self._holds_repeats and time.monotonic() >= self._quiet_from_s
            if has_come and not is_quiet:
                time.sleep(_GATHER_S)
            while self._commands:
                self._commands.popleft()()
            if has_come and is_quiet:
                self._take()
            elif has_come:
                self._offer.make(self._inbox.call)
            self._inbox.flush()

    def _connect(self, holder: Holder, endpoints: Endpoints) -> None:
        self._disconnect(holder)
        try:
            connection = Connection(
                self._context,
                endpoints,
                self._settings,
                topic=TOPIC_BATCH,  # a prefix of every topic of ours
                max_bytes=MAX_PAYLOAD_BYTES,
            )
        except LocalEventError as error:
            self._reject(holder, str(error))
            return
        self._links[holder] = link = _Link(holder, connection)
        for socket in connection.sockets:
            self._link_by_socket[socket] = link
            self._thread.watch(socket)

    def _disconnect(self, holder: Holder) -> None:
        link = self._links.pop(holder, None)
        if link is None:
            return
        for socket in link.connection.sockets:
            self._thread.leave(socket)
            del self._link_by_socket[socket]
        link.connection.close()

    def _send(self, holder: Holder, frames: list[bytes]) -> None:
        link = self._links.get(holder)
        if link is None or not link.connection.send(frames):
            self.counters.unsent_requests += 1

    # -- whose turn it is ----------------------------------------------------------------------

    def _take(self) -> None:
        """A turn's messages, of each socket in turn; the rest is offered again."""
        ready = self._thread.ready()
        self._n_turns += 1
        first = self._n_turns % len(ready) if ready else 0
        n_items, n_bytes = self._settings.turn_items, self._settings.turn_bytes
        for socket in (*ready[first:], *ready[:first]):
            taken, size = self._drain(socket, n_items, n_bytes)
            n_items, n_bytes = n_items - taken, n_bytes - size
            if n_items <= 0 or n_bytes <= 0:
                return

    def _drain(self, socket: Socket, most: int, most_bytes: int) -> tuple[int, int]:
        """So many messages, one more than so many bytes at most; how many, and their bytes."""
        link = self._link_by_socket[socket]
        decode = decode_frames if socket is link.connection.events else decode_reply
        n, n_bytes = 0, 0
        while n < most and n_bytes < most_bytes:
            try:
                frames = take_frames(socket)
            except zmq.Again:
                break
            size = sum(map(len, frames))
            if link.beat is not None and frames == link.beat_frames:
                repeated = Delivery(link.holder, link.beat, time.monotonic_ns())
                self._inbox.put(repeated, size, waits=True)
            else:
                self._accept(link, frames, size, decode)
            n, n_bytes = n + 1, n_bytes + size
        return n, n_bytes

    def _accept(
        self,
        link: _Link,
        frames: list[bytes],
        n_bytes: int,
        decode: Callable[[list[bytes]], StreamItem],
    ) -> None:
        try:
            item = decode(frames)
        except RemoteEventError as error:
            self._reject(link.holder, str(error))
            return
        if not self._holds_repeats or not isinstance(item, Heartbeat):
            self._quiet_from_s = time.monotonic() + _QUIET_S
        else:
            link.beat, link.beat_frames = item, frames
        self._inbox.put(Delivery(link.holder, item), n_bytes)

    def _reject(self, holder: Holder, reason: str) -> None:
        self.counters.malformed += 1
        self._inbox.put(Delivery(holder, Malformed(reason)), len(reason))
