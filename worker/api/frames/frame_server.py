"""Frame server: worker sessions over plain sockets, as `protos/frames.py` says.

What `Session` is over gRPC, at a tenth of its price: no task and no future for a message. Owns the
connections; the listening socket is `FrameSocket`'s, the worker sessions are `WorkerSessions`'. A
connection that breaks, closes or is not read for too long closes its worker session, which aborts
its requests. In one event loop; called by `WorkerService`.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from google.protobuf.message import DecodeError

from radixroute.events.net.tcp import keep_alive
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, BadFrame, FrameReader, framed
from radixroute.trust.identity import Identity
from radixroute.worker.api.frames.frame_socket import FrameSocket
from radixroute.worker.api.inbox import ENGINE_GONE, take, why_not_opened
from radixroute.worker.api.intake import Intake
from radixroute.worker.api.worker_session import WorkerSession
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.settings import WorkerSettings

HELLO_S = 5.0  # for a peer to say who it is
# In the system, for a router that does not read; by itself it would keep megabytes, for minutes.
SEND_BUFFER_BYTES = 256 * 1024


class FrameServer:
    """Listens: `start`, `stop`."""

    def __init__(
        self,
        sessions: WorkerSessions,
        intakes: Callable[[], Intake],
        settings: WorkerSettings,
        identity: Identity | None = None,
    ) -> None:
        """`intakes` makes that of one worker session. `identity`: None: in the clear."""
        self._sessions = sessions
        self._intakes = intakes
        self._settings = settings
        self._socket = FrameSocket(settings, identity)
        self._open: set[_Connection] = set()

    @property
    def unproven(self) -> int:
        """Connections that were refused before their first frame."""
        return self._socket.refused

    async def start(self) -> str:
        """Where it listens, as `GetInfo` tells it. Raises `BadSetting` and `PortInUse`."""
        return await self._socket.open(self._connection)

    async def stop(self) -> None:
        self._socket.close()
        for connection in list(self._open):
            connection.abort()

    def _connection(self) -> asyncio.Protocol:
        connection = _Connection(
            self._sessions,
            self._intakes(),
            FrameReader(self._settings.max_message_bytes),
            self._settings.unread_timeout_s,
            self._open.discard,
        )
        self._open.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One router's."""

    def __init__(
        self,
        sessions: WorkerSessions,
        intake: Intake,
        frames: FrameReader,
        unread_timeout_s: float,
        on_lost: Callable[["_Connection"], None],
    ) -> None:
        self._sessions = sessions
        self._intake = intake
        self._frames = frames
        self._unread_timeout_s = unread_timeout_s
        self._on_lost = on_lost
        self._session: WorkerSession | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None  # of who says nothing, or reads nothing
        self._is_paused = False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)
        keep_alive(stream, send_buffer_bytes=SEND_BUFFER_BYTES)
        stream.write(HELLO)
        self._arm(HELLO_S, lambda: self._end("nothing was said for too long"))

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return  # it was told why it is over
        try:
            messages = [pb.EngineRequest.FromString(frame) for frame in self._frames.feed(data)]
        except BadFrame as error:
            self._end(str(error))
            return
        except DecodeError:
            self._end("a frame is no message")
            return
        for message in messages:
            if self._session is None:
                self._begin(message)
            else:
                take(self._session, self._intake, message)

    def pause_writing(self) -> None:
        self._is_paused = True
        self._arm(self._unread_timeout_s, self._give_up)

    def resume_writing(self) -> None:
        self._is_paused = False
        self._disarm()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        self._on_lost(self)
        if self._session is not None:
            self._session.listener = None
            self._session.close()

    # -- the worker session

    def _begin(self, message: pb.EngineRequest) -> None:
        reason = why_not_opened(message) if self._sessions.is_open else ENGINE_GONE
        if reason:
            self._end(reason)
            return
        self._disarm()
        self._session = self._sessions.open(
            message.open.router_id, takes_columns=message.open.takes_columns
        )
        self._session.listener = self._flush
        self._send(pb.StepOutput(opened=True))

    def _flush(self) -> None:
        """Whatever waits for this router, in one write; all of it while the socket takes it."""
        session = self._session
        if session is None:
            return
        if session.is_closed:
            self._end("" if self._sessions.is_open else ENGINE_GONE)
        elif not self._is_paused:
            self._send(*session.take_outputs())

    def _give_up(self) -> None:
        self._sessions.unread += 1
        self.abort()

    def _send(self, *messages: pb.StepOutput) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(framed(one.SerializeToString()) for one in messages))

    def _end(self, reason: str) -> None:
        """Says why and hangs up; nothing that comes now is read."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if reason:
            transport.write(framed(pb.StepOutput(closing=reason).SerializeToString()))
        transport.close()
        self._arm(self._unread_timeout_s, transport.abort)  # it may not read even that

    def _arm(self, delay_s: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
