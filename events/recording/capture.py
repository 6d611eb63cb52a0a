"""Listens to live streams and records them: the edge between ZeroMQ sockets and an `EventRecorder`.

Owns a `Connection` to each source, and the follower whose sources ask for snapshots and resends,
so that a recording has the beginning and mends its gaps as a router would. A foreign engine that
hangs up joins anew: its next life is another. Decides nothing else. One thread, the caller's: it
calls `turn` until it has enough.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

import zmq

from radixroute.events.engines.vllm import MAX_FOREIGN_PAYLOAD_BYTES
from radixroute.events.errors import LocalEventError
from radixroute.events.net.frames import take_frames
from radixroute.events.net.socket_thread import Socket
from radixroute.events.recording.followed import Standing
from radixroute.events.recording.follower import StreamFollower
from radixroute.events.recording.recorder import EventRecorder
from radixroute.events.recording.recording import Channel, RecordedScope, Source, Wire
from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.connection import Connection, listening_context
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.native import MAX_PAYLOAD_BYTES, TOPIC_BATCH
from radixroute.trust.event_keys import EventKeys

# Messages of one socket before the others have their turn.
_MESSAGES_A_TURN = 256
# What a killed recorder may lose.
_FLUSH_NS = 1_000_000_000
_TICK_MS = 50


@dataclass(slots=True)
class CaptureCounters:
    """What was taken, and what could not be sent."""

    messages: int = 0
    unsent_requests: int = 0  # the source takes nothing or has gone: the follower asks again


@dataclass(frozen=True, slots=True)
class _Link:
    number: int
    source: Source
    connection: Connection


class Capture:
    """One recording while it is made. `turn` any number of times, then `finish`."""

    def __init__(  # noqa: PLR0913 - two of them are clocks, for tests
        self,
        file: BinaryIO,
        sources: Sequence[Source],
        *,
        by: str,
        scope: RecordedScope | None = None,
        keys: EventKeys | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`keys`: with which it may listen where only some may."""
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._flushed_ns = 0
        self._settings = SubscriberSettings(keys=keys)
        self._context = listening_context(self._settings)
        self._poller = zmq.Poller()
        self._links: dict[int, _Link] = {}
        self._link_by_socket: dict[Socket, _Link] = {}
        self._number_by_source: dict[Source, int] = {}
        self.counters = CaptureCounters()
        try:
            for number, source in enumerate(sources):
                self._connect(number, source)
            self._recorder = EventRecorder(
                file, started_unix_ns=unix_ns(), by=by, scope=scope, sources=sources
            )
            self._follower = StreamFollower(self._recorder.header, self._ask)
        except BaseException:
            self.close()
            raise

    @property
    def elapsed_ns(self) -> int:
        return self._now_ns() - self._began_ns

    @property
    def n_bytes(self) -> int:
        """Of the file."""
        return self._recorder.counters.bytes

    @property
    def refused(self) -> int:
        """Messages too big for a record."""
        return self._recorder.counters.refused

    @property
    def is_based(self) -> bool:
        """Whether every stream's beginning is recorded: what it builds on, and all since."""
        return all(one.state.is_credited for one in self.standings())

    def standings(self) -> list[Standing]:
        """Where the streams stand now."""
        return self._follower.standings()

    def listen_to(self, sources: Sequence[Source]) -> None:
        """The sources there are now: new ones are joined, others left."""
        for source in [one for one in self._number_by_source if one not in sources]:
            number = self._number_by_source.pop(source)
            self._disconnect(number)
            if source.worker not in {one.worker for one in sources}:
                self._follower.follow(self._recorder.leave(self.elapsed_ns, number))
        for source in sources:
            if source not in self._number_by_source:
                self._join(source)

    def turn(self, timeout_ms: int = _TICK_MS) -> None:
        """Waits for messages, at most so long, and records what there is."""
        for socket, _ in self._poller.poll(timeout_ms):
            self._look_at(socket)
        now = self.elapsed_ns
        self._follower.advance(now)
        if now - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = now
            self._recorder.flush()

    def finish(self) -> None:
        """Ends the recording, whole, and closes the sockets."""
        self._follower.follow(self._recorder.finish(self.elapsed_ns))
        self.close()

    def close(self) -> None:
        """Closes the sockets. Idempotent."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _join(self, source: Source) -> None:
        # Connected before it is followed: it asks for a snapshot at once.
        number, record = self._recorder.join(self.elapsed_ns, source)
        self._connect(number, source)
        self._follower.follow(record)

    def _connect(self, number: int, source: Source) -> None:
        is_native = source.wire is Wire.NATIVE
        try:
            connection = Connection(
                self._context,
                Endpoints(source.events, source.control, source.key),
                self._settings,
                topic=TOPIC_BATCH if is_native else b"",
                max_bytes=MAX_PAYLOAD_BYTES if is_native else MAX_FOREIGN_PAYLOAD_BYTES,
                notices_ends=not is_native,  # an engine's next life is marked by nothing else
            )
        except LocalEventError as error:
            raise LocalEventError(f"{source.worker}: {error}") from error
        self._links[number] = link = _Link(number, source, connection)
        self._number_by_source[source] = number
        self._watch(link)

    def _disconnect(self, number: int) -> None:
        link = self._links.pop(number)
        self._leave(link)
        link.connection.close()

    def _watch(self, link: _Link) -> None:
        for socket in link.connection.sockets:
            self._link_by_socket[socket] = link
            self._poller.register(socket, zmq.POLLIN)

    def _leave(self, link: _Link) -> None:
        for socket in link.connection.sockets:
            del self._link_by_socket[socket]
            self._poller.unregister(socket)

    def _ask(self, number: int, frames: list[bytes]) -> None:
        link = self._links.get(number)
        if link is None:
            self.counters.unsent_requests += 1
            return
        self._recorder.message(self.elapsed_ns, number, Channel.REQUESTS, frames)
        if link.source.wire is Wire.FOREIGN:
            self._leave(link)
            link.connection.renew_control()
            self._watch(link)
        if not link.connection.send(frames):
            self.counters.unsent_requests += 1

    def _look_at(self, socket: Socket) -> None:
        link = self._link_by_socket.get(socket)
        if link is None:
            return  # closed in this turn
        if socket is not link.connection.monitor:
            self._drain(link, socket)
        elif link.connection.has_ended():
            while self._drain(link, link.connection.events):
                pass  # what the old life said last
            self._disconnect(link.number)
            self._join(link.source)

    def _drain(self, link: _Link, socket: Socket) -> bool:
        """A turn's worth; whether there may be more."""
        is_live = socket is link.connection.events
        channel = Channel.EVENTS if is_live else Channel.CONTROL
        for _ in range(_MESSAGES_A_TURN):
            if socket.closed:  # what was received last led to another request
                return False
            try:
                frames = take_frames(socket)
            except zmq.Again:
                return False
            self.counters.messages += 1
            record = self._recorder.message(self.elapsed_ns, link.number, channel, frames)
            if record is not None:
                self._follower.follow(record)
        return True
