"""Listens to live streams and records them: the edge between ZeroMQ sockets and an `EventRecorder`.

Owns a SUB and a DEALER socket for each source, and the follower whose sessions ask for snapshots
and replays, so that a recording has the beginning and mends its gaps as a router would. Decides
nothing else. One thread, the caller's: it calls `turn` until it has enough.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

import zmq

from radixroute.events.control import ReplayRequest, SnapshotRequest, encode_request
from radixroute.events.errors import LocalEventError
from radixroute.events.followed import Standing
from radixroute.events.follower import StreamFollower
from radixroute.events.native import MAX_PAYLOAD_BYTES, TOPIC_BATCH
from radixroute.events.recorder import EventRecorder
from radixroute.events.recording import Channel, RecordedScope, Source, Wire
from radixroute.events.settings import SubscriberSettings
from radixroute.events.vllm import MAX_FOREIGN_PAYLOAD_BYTES

# Messages of one socket before the others have their turn.
_MESSAGES_A_TURN = 256
# What a killed recorder may lose.
_FLUSH_NS = 1_000_000_000
_TICK_MS = 50
_MAX_BYTES = {Wire.NATIVE: MAX_PAYLOAD_BYTES, Wire.FOREIGN: MAX_FOREIGN_PAYLOAD_BYTES}


@dataclass(slots=True)
class CaptureCounters:
    """What was taken, and what could not be sent."""

    messages: int = 0
    unsent_requests: int = 0  # the source takes nothing: its session asks again


@dataclass(frozen=True, slots=True)
class _Link:
    number: int
    events: zmq.Socket[bytes]
    control: zmq.Socket[bytes] | None


class Capture:
    """One recording while it is made. `turn` any number of times, then `finish`."""

    def __init__(
        self,
        file: BinaryIO,
        sources: Sequence[Source],
        *,
        by: str,
        scope: RecordedScope | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._now_ns = now_ns
        self._began_ns = now_ns()
        self._flushed_ns = 0
        self._context = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, SubscriberSettings().max_sockets)
        self._poller = zmq.Poller()
        self._links: dict[int, _Link] = {}
        self._channel_by_socket: dict[zmq.Socket[bytes], tuple[_Link, Channel]] = {}
        self._number_by_source: dict[Source, int] = {}
        self.counters = CaptureCounters()
        try:
            for number, source in enumerate(sources):
                self._connect(number, source)
            self._recorder = EventRecorder(
                file, started_unix_ns=unix_ns(), by=by, scope=scope, sources=sources
            )
            self._follower = StreamFollower(self._recorder.header, self._send)
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
        native = [one for one in self.standings() if one.epoch]
        return all(one.state.is_credited for one in native)

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
            self._drain(socket)
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
        # Connected before it is followed: its session asks for a snapshot at once.
        number, record = self._recorder.join(self.elapsed_ns, source)
        self._connect(number, source)
        self._follower.follow(record)

    def _connect(self, number: int, source: Source) -> None:
        events = self._socket(zmq.SUB, source.wire)
        events.setsockopt(zmq.SUBSCRIBE, TOPIC_BATCH if source.wire is Wire.NATIVE else b"")
        _connect(events, source.events, source.worker)
        link = _Link(number, events, None)
        if source.wire is Wire.NATIVE:
            control = self._socket(zmq.DEALER, source.wire)
            _connect(control, source.control, source.worker)
            link = _Link(number, events, control)
            self._channel_by_socket[control] = link, Channel.CONTROL
            self._poller.register(control, zmq.POLLIN)
        self._links[number] = link
        self._number_by_source[source] = number
        self._channel_by_socket[events] = link, Channel.EVENTS
        self._poller.register(events, zmq.POLLIN)

    def _disconnect(self, number: int) -> None:
        link = self._links.pop(number)
        for socket in (link.events, link.control):
            if socket is not None:
                self._poller.unregister(socket)
                del self._channel_by_socket[socket]
                socket.close(linger=0)

    def _socket(self, kind: int, wire: Wire) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, 1),
            (zmq.RCVHWM, SubscriberSettings().receive_high_water_mark),
            (zmq.MAXMSGSIZE, _MAX_BYTES[wire]),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 1000),
        ):
            socket.setsockopt(option, value)
        return socket

    def _send(self, number: int, request: ReplayRequest | SnapshotRequest) -> None:
        link = self._links.get(number)
        try:
            if link is not None and link.control is not None:
                link.control.send_multipart(encode_request(request), zmq.NOBLOCK)
                return
        except zmq.Again:
            pass
        self.counters.unsent_requests += 1

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        link, channel = self._channel_by_socket[socket]
        for _ in range(_MESSAGES_A_TURN):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.counters.messages += 1
            record = self._recorder.message(self.elapsed_ns, link.number, channel, frames)
            if record is not None:
                self._follower.follow(record)


def _connect(socket: zmq.Socket[bytes], endpoint: str, worker: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise LocalEventError(
            f"cannot connect to {endpoint!r} of {worker}: {error.strerror}; "
            "an address is tcp://HOST:PORT"
        ) from error
