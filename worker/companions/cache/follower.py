"""Event follower: an engine's cache events from its sockets to a companion, as events of ours.

Owns a thread with the sockets and the `EngineStream`, which decodes, orders and translates there:
a burst of events costs the event loop nothing but the events. Says when the engine's end of the
link went away or its count began anew, and leaves it to the companion what that means: a link that
comes back goes on where it was, and what was missed is asked for.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import zmq

from radixroute.events.engines.engine_stream import ApplyTo, EngineAction, EngineStream
from radixroute.events.engines.foreign import ForeignBatch, ForeignReplayEnd
from radixroute.events.engines.vllm import (
    MAX_FOREIGN_PAYLOAD_BYTES,
    decode_live,
    decode_replay,
    encode_replay_request,
)
from radixroute.events.errors import RemoteEventError
from radixroute.events.net.frames import take_frames
from radixroute.events.net.socket_thread import Socket, SocketThread
from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.connection import Connection, listening_context
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.records import Event
from radixroute.radix.keys.scope import Scope
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.dialects.dialect import EventPlace

_TICK_MS: Final = 50
_IDLE_TICK_MS: Final = 1000  # nothing is asked for: sockets wake the thread, and probes are rare
_MESSAGES_A_TURN: Final = 256


class CacheListener(Protocol):
    """Who hears of the cache, on the event loop."""

    def on_cache(self, events: Sequence[Event]) -> None: ...

    def on_link_lost(self) -> None:
        """The engine's sockets went away, or its count began anew: it may be another life."""


class EventFollower:
    """One rank's endpoint: `start`, then `stop`. Properties may be read from any thread."""

    def __init__(
        self,
        place: EventPlace,
        scope: Scope,
        salts: Salts,
        listener: CacheListener,
        pool_blocks: int = 0,
    ) -> None:
        """`pool_blocks`: what the engine has room for; 0: not known."""
        self._place = place
        self._salts = salts
        self._listener = listener
        self._stream = EngineStream(scope, pool_blocks=pool_blocks)
        self._thread = SocketThread("engine-events")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = 0
        self._restarts = 0
        self._ready: list[Event] = []
        self.is_begun = False  # linked, and what the engine still kept is here
        self.is_whole = True  # no batch that is known to exist is missing
        self.has_replay = False  # somebody answered for what was missed
        self.is_cut = False  # blocks are held that it cannot know of: the engine is to tell again
        self.breaks = 0  # times that the link was lost, or the engine's count began anew
        self.known_from = self.next_seq = 0  # it knows the batches between
        self.batches = 0
        # Of the engine's count, as its batches arrived: see `EngineCounters`.
        self.gaps = self.missed = self.unmended = 0
        self.malformed = 0  # messages
        self.drops: Mapping[str, int] = {}  # whatever was not believed, by reason

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive

    def start(self) -> None:
        """From the event loop. Raises `LocalEventError` for what is no address."""
        self._loop = asyncio.get_running_loop()
        settings = SubscriberSettings()
        context = listening_context(settings)
        try:
            connection = Connection(
                context,
                Endpoints(self._place.events, self._place.replay),
                settings,
                topic=b"",
                max_bytes=MAX_FOREIGN_PAYLOAD_BYTES,
                notices_ends=True,
            )
        except BaseException:
            context.destroy(linger=0)
            raise
        self._thread.start(context, lambda: self._run(connection))

    def stop(self) -> None:
        """Waits for the thread. Idempotent."""
        self._thread.stop()

    # -- the thread

    def _run(self, connection: Connection) -> None:
        for socket in connection.sockets:
            self._thread.watch(socket)
        try:
            while not self._thread.is_stopping:
                self._turn(connection)
                self._thread.wait(_IDLE_TICK_MS if self._stream.is_quiet else _TICK_MS)
        finally:
            connection.close()

    def _turn(self, connection: Connection) -> None:
        is_lost = connection.has_ended()
        self._drain(connection, connection.events)
        control = connection.control
        if control is not None:
            self._drain(connection, control)
        self._perform(connection, self._stream.tick(time.monotonic_ns()))
        stream = self._stream
        self.breaks += is_lost or stream.counters.restarts != self._restarts
        self._mend(connection)
        is_lost = is_lost or stream.counters.restarts != self._restarts
        self._restarts = stream.counters.restarts
        self.is_begun = connection.is_up and stream.is_begun
        self.is_whole = stream.is_whole
        self.known_from, self.next_seq = stream.known_from, stream.next_seq
        counters = stream.counters
        self.gaps, self.missed = counters.live_gaps, counters.live_missed
        self.unmended = counters.unmended
        self.drops = {**stream.drops(), "malformed": self.malformed}
        events, self._ready = self._ready, []
        if events:
            self._call(lambda: self._listener.on_cache(events))
        if is_lost:
            self._call(self._listener.on_link_lost)

    def _mend(self, connection: Connection) -> None:
        """Once something is lost for good, blocks are told of again when they are used again, which
        must not count as copies; what is still kept is heard once more."""
        stream = self._stream
        is_cut = stream.is_begun and stream.known_from > 0
        if self.is_cut or not (is_cut or stream.counters.forgotten):
            return
        self.is_cut = True
        self._perform(connection, [*stream.keep_one_copy(), *stream.ended()])

    def _drain(self, connection: Connection, socket: Socket) -> None:
        is_live = socket is connection.events
        for _ in range(_MESSAGES_A_TURN):
            if socket.closed:  # what was received last led to another request
                return
            try:
                frames = take_frames(socket)
            except zmq.Again:
                return
            try:
                self._perform(connection, self._receive(frames, is_live=is_live))
            except RemoteEventError:
                self.malformed += 1
        self._thread.wake()  # there may be more

    def _receive(self, frames: list[bytes], *, is_live: bool) -> list[EngineAction]:
        now_ns = time.monotonic_ns()
        if is_live:
            self.batches += 1
            return self._stream.receive(self._restored(decode_live(frames)), now_ns)
        item = decode_replay(frames)
        self.has_replay = True
        if not isinstance(item, ForeignReplayEnd):
            item = self._restored(item)
        return self._stream.receive_replayed(self._asked, item, now_ns)

    def _restored(self, batch: ForeignBatch) -> ForeignBatch:
        if not len(self._salts):
            return batch
        events = tuple(batch.events)
        restored = tuple(self._salts.restored(event) for event in events)
        if all(new is old for new, old in zip(restored, events, strict=True)):
            return batch
        return ForeignBatch(batch.seq, restored, batch.rank, batch.ts, batch.skipped)

    def _perform(self, connection: Connection, actions: Sequence[EngineAction]) -> None:
        for action in actions:
            if isinstance(action, ApplyTo):
                self._ready.extend(action.events)
                continue
            self._asked = action.number
            if connection.control is None:
                now_ns = time.monotonic_ns()
                self._perform(
                    connection, self._stream.receive_replayed(action.number, None, now_ns)
                )
                continue
            self._thread.leave(connection.control)
            connection.renew_control()
            self._thread.watch(connection.control)
            connection.send(encode_replay_request(action.from_seq))

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
