"""Engine link: one worker's session, reopened for as long as the worker is listed.

Owns the channel and the backoff of one member, and which wire its session takes: plain frames where
the worker offers them, else `Session` over gRPC. Decides nothing: it tells its listener what it
saw, in the loop that runs it.
"""

import asyncio
import logging
from typing import Protocol

import grpc

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.router.errors import JoinRefused
from radixroute.router.links.channel import channel_options
from radixroute.router.links.frame_wire import FrameWire
from radixroute.router.links.grpc_wire import GrpcWire
from radixroute.router.links.handshake import Handshake, Joined
from radixroute.router.links.session_place import session_place
from radixroute.router.links.session_wire import SessionEnded, SessionWire
from radixroute.router.links.tls_trouble import tls_trouble
from radixroute.router.links.wire import messages_of
from radixroute.router.messages.actions import ToWorker
from radixroute.router.messages.inputs import MemberSpec, StepReport
from radixroute.router.settings import RouterSettings
from radixroute.trust.identity import Identity

_log = logging.getLogger(__name__)


class LinkListener(Protocol):
    """Who is told, in the link's loop. They only take note."""

    def opened(self, spec: MemberSpec, joined: Joined) -> None: ...

    def received(self, spec: MemberSpec, report: StepReport) -> None: ...

    def closed(self, spec: MemberSpec, reason: str) -> None: ...

    def refused(self, spec: MemberSpec, reason: str) -> None: ...

    def unreachable(self, spec: MemberSpec, reason: str) -> None: ...


class EngineLink:
    """The way to one worker."""

    def __init__(
        self,
        spec: MemberSpec,
        settings: RouterSettings,
        handshake: Handshake,
        listener: LinkListener,
        identity: Identity | None = None,
    ) -> None:
        """`identity`: None: in the clear."""
        self.spec = spec
        self._identity = identity
        self._settings = settings
        self._handshake = handshake
        self._listener = listener
        self._wire: SessionWire | None = None  # of the session that is open
        self._task: asyncio.Task[None] | None = None
        self._session: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"link {self.spec.worker_id}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def send(self, action: ToWorker) -> int:
        """Messages that were dropped: no session is open; its end comes by `closed`."""
        messages = list(messages_of(action, self._settings.chunk_tokens))
        if self._wire is None:
            return len(messages)
        for message in messages:
            self._wire.send(message)
        return 0

    def drop(self) -> None:
        """Ends the session at hand; the link goes on with the next one."""
        self._wire = None
        if self._session is not None:
            self._session.cancel()

    async def _run(self) -> None:
        delay_s = self._settings.reconnect_min_s
        while True:
            self._session = asyncio.create_task(self._serve_session())
            try:
                await asyncio.wait([self._session])
            finally:
                self._session.cancel()
            opened = self._report(self._session)
            low_s, high_s = self._settings.reconnect_min_s, self._settings.reconnect_max_s
            delay_s = low_s if opened else min(high_s, delay_s * 2)
            await asyncio.sleep(delay_s)

    def _report(self, session: asyncio.Task[None]) -> bool:
        """Tells how the session ended; True if it had been open."""
        error = None if session.cancelled() else session.exception()
        was_open, self._wire = self._wire is not None, None
        reason = _reason(error)
        if isinstance(error, JoinRefused):
            self._listener.refused(self.spec, error.reason)
        elif was_open:
            self._listener.closed(self.spec, reason)
        else:
            self._listener.unreachable(self.spec, reason)
        if error is not None and not isinstance(error, _EXPECTED):
            _log.error("session with %s failed", self.spec.worker_id, exc_info=error)
        return was_open

    async def _serve_session(self) -> None:
        async with self._channel() as channel:
            stub = rpc.EngineStub(channel)
            info = await self._info(stub)
            joined = await self._handshake.admit(self.spec, info, stub)
            if not info.session_endpoint:
                await self._relay(GrpcWire(stub), joined)
                return
        place = session_place(info.session_endpoint, self.spec.address)
        tls = None if self._identity is None else self._identity.client_context()
        most, name = self._settings.max_message_bytes, self._settings.link_name
        await self._relay(FrameWire(place, most, tls, name), joined)

    def _channel(self) -> grpc.aio.Channel:
        address, settings = self.spec.address, self._settings
        options: list[tuple[str, int | str]] = [*channel_options(settings.max_message_bytes)]
        if self._identity is None:
            return grpc.aio.insecure_channel(address, options=options)
        if settings.link_name:
            options.append(("grpc.ssl_target_name_override", settings.link_name))
        credentials = self._identity.channel_credentials()
        return grpc.aio.secure_channel(address, credentials, options=options)

    async def _info(self, stub: rpc.EngineStub) -> pb.GetInfoResponse:
        """Raises JoinRefused where the two do not believe each other."""
        identity, settings = self._identity, self._settings
        key = b"" if identity is None else identity.event_keys.public
        try:
            info: pb.GetInfoResponse = await stub.GetInfo(
                pb.GetInfoRequest(events_key=key), timeout=settings.connect_timeout_s
            )
            return info
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            host, _, port = self.spec.address.rpartition(":")
            host = host.strip("[]")
            name = settings.link_name or host
            if trouble := await tls_trouble(host, int(port), identity, name):
                raise JoinRefused(trouble) from None
            raise

    async def _relay(self, wire: SessionWire, joined: Joined) -> None:
        hello = pb.OpenSession(router_id=self._settings.router_id, api_version=API_VERSION)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await wire.open(hello)
            self._wire = wire
            self._listener.opened(self.spec, joined)
            await wire.relay(lambda report: self._listener.received(self.spec, report))
        finally:
            wire.close()


_EXPECTED = (
    JoinRefused,
    SessionEnded,
    grpc.RpcError,
    TimeoutError,
    OSError,
    asyncio.CancelledError,
)


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "the session ended"
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: the session broke"
    if isinstance(error, SessionEnded):
        return str(error)
    return type(error).__name__
