"""Publishes one rank's events in the compat form over ZeroMQ, from a thread of its own.

Owns its sockets (PUB, and the ROUTER that is vLLM's replay endpoint), its own seq, the ring
and the queue between caller and thread. Knows no epoch, heartbeat or snapshot: vLLM has none.
`publish` never blocks: what a full queue or a slow subscriber costs is counted and leaves a gap in
seq. Called by the worker's service from its loop, beside the native `EventPublisher`.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import zmq

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.net.frames import offer_frames, send_frames
from radixroute.events.net.socket_thread import Socket, SocketThread
from radixroute.events.publish.listening import (
    LAST_LINGER_MS,
    endpoints_of,
    listen,
    require_safe_host,
)
from radixroute.events.publish.ring import BatchRing, Frames
from radixroute.events.publish.transfers import Transfers
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.compat import (
    decode_replay_request,
    encode_compat,
    encode_replay_end,
    encode_replay_reply,
)
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.records import Event

# Batches sent before the thread looks at its other duties: token ids take longer than keys.
_BATCHES_A_TURN = 64
_REQUESTS_A_TURN = 8
_BUSY_PEER_WAIT_MS = 5
# Woken by batches and requests; this only bounds how late a stalled replay is given up.
_IDLE_WAIT_MS = 1000
_NEWEST = 2**64 - 1


@dataclass(slots=True)
class CompatCounters:
    """Batches and requests by what became of them."""

    sent: int = 0
    dropped: int = 0  # consumed a seq and were never sent: the thread was too far behind
    overruns: int = 0  # times a subscriber fell so far behind that it began to lose batches
    after_stop: int = 0
    malformed_requests: int = 0
    refused_requests: int = 0  # the peer has a replay already, or too many run
    failed_replays: int = 0  # the peer went away or took nothing for too long


class CompatPublisher:
    """One rank: `start`, any number of `publish`, `stop`. Settings of heartbeats do not apply."""

    def __init__(
        self, block_size: int, rank: int = 0, settings: PublisherSettings | None = None
    ) -> None:
        self._settings = settings or PublisherSettings()
        require_safe_host(self._settings, "events with the token ids of all prompts")
        self._block_size = block_size
        self._rank = rank
        self._next_seq = 0  # of the caller; the thread takes what it finds in the queue
        self._queue: deque[tuple[int, tuple[Event, ...]]] = deque()
        self._ring = BatchRing(self._settings.ring_batches, self._settings.ring_bytes)
        self._endpoints: Endpoints | None = None
        self._thread = SocketThread("compat-publisher", LAST_LINGER_MS)
        self.counters = CompatCounters()

    @property
    def endpoints(self) -> Endpoints:
        """Where to subscribe and where its replay endpoint is; known once started."""
        if self._endpoints is None:
            raise LocalEventError("the compat publisher has not been started")
        return self._endpoints

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive

    def start(self) -> None:
        """Binds both sockets here, so that a taken port is the caller's error, and starts."""
        self._thread.require_new()
        context = zmq.Context(io_threads=1)
        events, control = listen(context, self._settings)
        events.setsockopt(zmq.XPUB_NODROP, 1)  # a full subscriber is said, not passed over
        self._endpoints = endpoints_of(events, control, self._settings)
        self._thread.start(context, partial(self._run, events, control))

    def publish(self, events: tuple[Event, ...]) -> None:
        """Queues the events of one engine step, stored ones with tokens. Never blocks."""
        if not events:
            return
        if self._thread.is_stopping:
            self.counters.after_stop += 1
            return
        seq = self._next_seq
        self._next_seq += 1
        if len(self._queue) >= self._settings.max_queued_batches:
            self.counters.dropped += 1
            return
        self._queue.append((seq, events))
        self._thread.wake()

    def stop(self) -> None:
        """Sends what is queued and closes the sockets. Idempotent."""
        self._thread.stop()

    # -- the thread --------------------------------------------------------------------------------

    def _run(self, events: Socket, control: Socket) -> None:
        transfers = Transfers(control, self._settings.max_transfers)
        self._thread.watch(control)
        while not self._thread.is_stopping:
            has_more = self._send_queued(events)
            self._serve(transfers)
            is_busy = transfers.advance(time.monotonic_ns())
            self.counters.failed_replays = transfers.failed
            wait_ms = _IDLE_WAIT_MS
            if transfers.active:
                wait_ms = _BUSY_PEER_WAIT_MS if is_busy else 0
            self._thread.wait(0 if has_more else wait_ms)
        while self._send_queued(events):
            pass

    def _send_queued(self, events: Socket) -> bool:
        """Sends a turn's worth; whether more is queued."""
        for _ in range(_BATCHES_A_TURN):
            if not self._queue:
                return False
            seq, batch = self._queue.popleft()
            frames = encode_compat(
                seq, batch, ts=time.time(), rank=self._rank, block_size=self._block_size
            )
            self._ring.keep(seq, frames)
            self._send(events, frames)
            self.counters.sent += 1
        return True

    def _send(self, events: Socket, frames: Frames) -> None:
        """To whoever can take it: a full subscriber is noticed, then left out till it reads."""
        try:
            offer_frames(events, frames)
        except zmq.Again:
            self.counters.overruns += 1
            # The others get it all the same: a PUB socket drops for the full one alone.
            events.setsockopt(zmq.XPUB_NODROP, 0)
            send_frames(events, frames)
            events.setsockopt(zmq.XPUB_NODROP, 1)

    def _serve(self, transfers: Transfers) -> None:
        for _ in range(_REQUESTS_A_TURN):
            received = transfers.receive()
            if received is None:
                return
            peer, frames = received
            try:
                from_seq = decode_replay_request(frames)
            except RemoteEventError:
                self.counters.malformed_requests += 1
                continue
            if not transfers.may_start(peer):
                self.counters.refused_requests += 1
                continue
            transfers.start(peer, self._replay(from_seq), time.monotonic_ns())

    def _replay(self, from_seq: int) -> Iterator[Frames]:
        for kept in self._ring.between(from_seq, _NEWEST):
            yield encode_replay_reply(kept.frames)
        yield encode_replay_end()
