"""Publishes a worker's native streams, one a rank, over ZeroMQ from a thread of its own.

Owns the PUB and ROUTER sockets, which the ranks share, an `OutboundStream` for each rank and the
queue between the caller and the thread. The thread alone sends, follows the mirrors and beats the
hearts, so what a heartbeat says and what was sent agree; it beats whatever the engine does.
`publish` and `report_load` never block: a full queue costs sending, never truth. Called by the
worker's service from its loop.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import zmq

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.net.frames import send_frames
from radixroute.events.net.gate import EventGate
from radixroute.events.net.socket_thread import Socket, SocketThread
from radixroute.events.publish.listening import (
    LAST_LINGER_MS,
    endpoints_of,
    listen,
    require_safe_host,
)
from radixroute.events.publish.outbound import OutboundCounters, OutboundStream
from radixroute.events.publish.transfers import Transfers
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.control import Endpoints, ResendRequest, SnapshotRequest, decode_request
from radixroute.events.wire.native import encode_heartbeat
from radixroute.events.wire.records import Epoch, Event, LoadReport

# Batches sent before the thread looks at its other duties: a few milliseconds' worth.
_BATCHES_A_TURN = 256
_REQUESTS_A_TURN = 8
# A peer that takes no more is tried again after this; batches and heartbeats go on meanwhile.
_BUSY_PEER_WAIT_MS = 5


@dataclass(slots=True)
class PublisherCounters:
    """What was refused; batches sent and dropped are counted by the stream."""

    malformed_requests: int = 0
    refused_requests: int = 0  # the peer has a transfer already, or too many run
    after_stop: int = 0  # batches published when nobody sends any more
    failed_transfers: int = 0  # the peer went away or took nothing for too long


class EventPublisher:
    """One epoch of one worker: `start`, any number of `publish` and `report_load`, `stop`. It has
    one rank until `add_ranks` says that there are more."""

    def __init__(
        self,
        epoch: Epoch,
        settings: PublisherSettings | None = None,
        gate: EventGate | None = None,
    ) -> None:
        """`gate`: who may come to its sockets; None: everybody."""
        self._settings = settings or PublisherSettings()
        self._gate = gate
        if gate is None:
            require_safe_host(self._settings, "events")
        self._epoch = epoch
        self._streams = [self._new_stream(0)]  # by rank
        # Guards streams and the queue's order; held for one batch or one mirror copy at most.
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, tuple[Event, ...]]] = deque()  # with their ranks
        # One tuple, replaced whole: the thread never sees a report with another's time.
        self._load = (LoadReport(0.0, kv_blocks_total=0, kv_blocks_used=0), time.monotonic_ns())
        self._endpoints: Endpoints | None = None
        self._thread = SocketThread("event-publisher", LAST_LINGER_MS)
        self._beats: list[list[bytes]] = []  # frames of the last heartbeats
        # The load that they told, while they are true: an idle worker says the same again and
        # again, which is to cost the sending and no more.
        self._beats_of: tuple[LoadReport, int] | None = None
        self.counters = PublisherCounters()

    @property
    def endpoints(self) -> Endpoints:
        """Where to subscribe; known once started."""
        if self._endpoints is None:
            raise LocalEventError("the publisher has not been started")
        return self._endpoints

    @property
    def stream_counters(self) -> OutboundCounters:
        """Of all ranks together."""
        counters = [stream.counters for stream in self._streams]
        return OutboundCounters(
            sent=sum(one.sent for one in counters),
            dropped=sum(one.dropped for one in counters),
            too_big=sum(one.too_big for one in counters),
        )

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; without it the router sees silence."""
        return self._thread.is_alive

    def start(self) -> None:
        """Binds both sockets here, so that a taken port is the caller's error, and starts."""
        self._thread.require_new()
        context = zmq.Context(io_threads=1)
        asked = None if self._gate is None else self._gate.open(context)
        events, control = listen(context, self._settings, self._gate)
        self._endpoints = endpoints_of(events, control, self._settings, self._gate)
        self._thread.start(context, partial(self._run, events, control, asked))

    def add_ranks(self, n: int) -> None:
        """It has so many from now on; whoever asks hears of all of them."""
        with self._lock:
            self._streams += [self._new_stream(rank) for rank in range(len(self._streams), n)]
            self._beats_of = None

    def publish(self, events: tuple[Event, ...], rank: int = 0) -> None:
        """Queues the events of one engine step. Never blocks; no events, no batch."""
        if not events:
            return
        if not 0 <= rank < len(self._streams):
            raise LocalEventError(f"events of rank {rank} where there are {len(self._streams)}")
        if self._thread.is_stopping:
            self.counters.after_stop += 1
            return
        if len(self._queue) >= self._settings.max_queued_batches:
            self._drop_queued()
        self._queue.append((rank, events))
        self._thread.wake()

    def report_load(self, report: LoadReport) -> None:
        """What heartbeats say about load from here on."""
        self._load = (report, time.monotonic_ns())

    def report_direct(self, running: tuple[str, ...], ended: tuple[str, ...]) -> None:
        """The same of direct clients' requests, between two steps: the load is as old as it was."""
        report, reported_ns = self._load
        self._load = (replace(report, direct=running, direct_ended=ended), reported_ns)

    def stop(self) -> None:
        """Sends what is queued and closes the sockets. Idempotent."""
        self._thread.stop()

    def _drop_queued(self) -> None:
        # The thread is far behind. Sending is given up, following is not: the queue empties into
        # the mirror here, and every subscriber sees the gap.
        with self._lock:
            while self._queue:
                rank, events = self._queue.popleft()
                self._streams[rank].drop(events)
            self._beats_of = None

    def _new_stream(self, rank: int) -> OutboundStream:
        return OutboundStream(
            self._epoch,
            rank,
            ring_batches=self._settings.ring_batches,
            ring_bytes=self._settings.ring_bytes,
            part_blocks=self._settings.snapshot_part_blocks,
        )

    # -- the thread --------------------------------------------------------------------------------

    def _run(self, events: Socket, control: Socket, asked: Socket | None) -> None:
        """`asked`: the gate's."""
        transfers = Transfers(control, self._settings.max_transfers)
        self._thread.watch(control)
        if asked is not None:
            self._thread.watch(asked)
        interval_ns = int(self._settings.heartbeat_interval_s * 1e9)
        next_beat_ns = time.monotonic_ns()
        ready = [control]
        while not self._thread.is_stopping:
            has_more = bool(self._queue) and self._send_queued(events)
            now_ns = time.monotonic_ns()
            if now_ns >= next_beat_ns:
                self._beat(events, now_ns)
                next_beat_ns = now_ns + interval_ns
            if self._gate is not None and asked is not None and asked in ready:
                self._gate.answer(asked)
            if control in ready:
                self._serve(transfers)
            wait_ms = max(0, (next_beat_ns - time.monotonic_ns()) // 1_000_000 + 1)
            if transfers.active:
                is_busy = transfers.advance(now_ns)
                self.counters.failed_transfers = transfers.failed
                wait_ms = min(wait_ms, _BUSY_PEER_WAIT_MS if is_busy else 0)
            ready = self._thread.wait(0 if has_more else wait_ms)
        while self._send_queued(events):
            pass

    def _send_queued(self, events: Socket) -> bool:
        """Sends a turn's worth; whether more is queued."""
        for _ in range(_BATCHES_A_TURN):
            with self._lock:
                if not self._queue:
                    return False
                rank, batch = self._queue.popleft()
                frames = self._streams[rank].record(batch, time.time())
                self._beats_of = None
            if frames is not None:
                send_frames(events, frames)  # a PUB socket drops rather than blocks
        return True

    def _beat(self, events: Socket, now_ns: int) -> None:
        if self._beats_of is not self._load:
            self._beats = self._new_beats(now_ns)
        for frames in self._beats:
            send_frames(events, frames)

    def _new_beats(self, now_ns: int) -> list[list[bytes]]:
        told = self._load
        load = self._aged_load(told, now_ns)
        with self._lock:
            beats = [stream.heartbeat(load) for stream in self._streams]
            self._beats_of = told if load is told[0] else None
        return [encode_heartbeat(beat) for beat in beats]

    def _aged_load(self, told: tuple[LoadReport, int], now_ns: int) -> LoadReport:
        # An engine with requests that reports nothing has not finished a step since. An idle one
        # has no step to finish: its silence is no age.
        report, reported_ns = told
        if not any(session.in_flight for session in report.sessions):
            return report
        return replace(report, step_age_ms=report.step_age_ms + (now_ns - reported_ns) / 1e6)

    def _serve(self, transfers: Transfers) -> None:
        for _ in range(_REQUESTS_A_TURN):
            received = transfers.receive()
            if received is None:
                return
            peer, frames = received
            try:
                request = decode_request(frames)
            except RemoteEventError:
                self.counters.malformed_requests += 1
                continue
            if not transfers.may_start(peer):
                self.counters.refused_requests += 1
                continue
            self._answer(transfers, peer, request)

    def _answer(
        self, transfers: Transfers, peer: bytes, request: ResendRequest | SnapshotRequest
    ) -> None:
        with self._lock:
            if isinstance(request, SnapshotRequest):
                messages = chain.from_iterable([one.snapshot() for one in self._streams])
            else:
                first, *others = self._streams
                kept = [stream.kept(request) for stream in others]
                messages = chain(*kept, first.resend(request))  # which ends once
        transfers.start(peer, messages, time.monotonic_ns())
