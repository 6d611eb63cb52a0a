"""Engine link: one worker's `Session` stream, reopened for as long as the worker is listed.

Owns the channel, the outbox and the backoff of one member. Decides nothing: it tells its listener
what it saw, in the loop that runs it. Always drains the stream. One task reads, one writes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

import grpc

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.router.errors import JoinRefused
from radixroute.router.links.channel import channel_options
from radixroute.router.links.handshake import Handshake, Joined
from radixroute.router.links.wire import messages_of, step_reports
from radixroute.router.messages.actions import ToWorker
from radixroute.router.messages.inputs import MemberSpec, StepReport
from radixroute.router.settings import RouterSettings

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
    ) -> None:
        self.spec = spec
        self._settings = settings
        self._handshake = handshake
        self._listener = listener
        # Unbounded here: what may wait in it is bounded by the requests in flight, and a worker
        # that stops reading stops its heartbeats or is dropped with its session.
        self._outbox: asyncio.Queue[pb.EngineRequest] | None = None
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
        if self._outbox is None:
            return len(messages)
        for message in messages:
            self._outbox.put_nowait(message)
        return 0

    def drop(self) -> None:
        """Ends the session at hand; the link goes on with the next one."""
        self._outbox = None
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
        was_open, self._outbox = self._outbox is not None, None
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
        timeout_s = self._settings.connect_timeout_s
        options = channel_options(self._settings.max_message_bytes)
        async with grpc.aio.insecure_channel(self.spec.address, options=options) as channel:
            stub = rpc.EngineStub(channel)
            info = await stub.GetInfo(pb.GetInfoRequest(), timeout=timeout_s)
            joined = await self._handshake.admit(self.spec, info, stub)
            call = stub.Session()
            try:
                await asyncio.wait_for(_open(call, self._settings.router_id), timeout_s)
                await self._relay(call, joined)
            finally:
                call.cancel()

    async def _relay(self, call: grpc.aio.StreamStreamCall, joined: Joined) -> None:
        outbox: asyncio.Queue[pb.EngineRequest] = asyncio.Queue()
        self._outbox = outbox
        self._listener.opened(self.spec, joined)
        writer = asyncio.create_task(_write(call, outbox))
        try:
            async for output in _read(call):
                for number, report in enumerate(step_reports(output)):
                    if number:
                        await asyncio.sleep(0)  # others have their turn
                    self._listener.received(self.spec, report)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


_EXPECTED = (JoinRefused, grpc.RpcError, TimeoutError, OSError, asyncio.CancelledError)


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "the session ended"
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: the session broke"
    return type(error).__name__


async def _open(call: grpc.aio.StreamStreamCall, router_id: str) -> None:
    hello = pb.OpenSession(router_id=router_id, api_version=API_VERSION)
    await call.write(pb.EngineRequest(open=hello))
    answer = await call.read()
    if answer is grpc.aio.EOF or not answer.opened:
        # Raises the status the worker closed with, if it did.
        code = await call.code()
        raise JoinRefused(f"the worker did not open a session: {code.name}")


async def _read(call: grpc.aio.StreamStreamCall) -> AsyncIterator[pb.StepOutput]:
    while (output := await call.read()) is not grpc.aio.EOF:
        yield output


async def _write(call: grpc.aio.StreamStreamCall, outbox: asyncio.Queue[pb.EngineRequest]) -> None:
    while True:
        await call.write(await outbox.get())
