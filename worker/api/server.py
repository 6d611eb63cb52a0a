"""Server: the worker's gRPC services, `Engine` and `grpc.health.v1`. Bytes in, bytes out.

Owns the listening server and its port; streams belong to `WorkerSessions`. Never decides anything.
Each stream has one coroutine that writes and one that reads; a stream that breaks, closes or is not
read for too long closes its worker session, which aborts its requests. On one event loop; called by
`WorkerService`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from radixroute.events.net.bind import is_loopback
from radixroute.events.net.gate import EventGate
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.errors import InvalidRequest, NoRoom
from radixroute.trust.identity import Identity
from radixroute.worker.api.inbox import ENGINE_GONE, take, why_not_opened
from radixroute.worker.api.intake import MAX_ID_LEN, Intake
from radixroute.worker.api.worker_session import WorkerSession
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.errors import EngineDead, PortInUse, UnsafeBind
from radixroute.worker.settings import WorkerSettings

SERVICE_NAME = "radixroute.v1.Engine"
# Well below the 4 MB that gRPC allows a message by default.
_TOKENIZER_CHUNK_BYTES = 1024 * 1024
# A peer whose machine vanished sends no FIN: a ping each 10 s finds it in 15. The floor on others'
# pings is lower, so that routers may do the same.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)
_log = logging.getLogger(__name__)


class EngineServer(rpc.EngineServicer):
    """Answers the calls of `radixroute.v1.Engine`."""

    def __init__(
        self,
        sessions: WorkerSessions,
        info: pb.GetInfoResponse,
        intakes: Callable[[], Intake],
        unread_timeout_s: float,
        gate: EventGate | None = None,
    ) -> None:
        """`intakes` makes that of one worker session. `gate`: of its events, if they have one."""
        self._gate = gate
        self._sessions = sessions
        self._info = info
        self._intakes = intakes
        self._unread_timeout_s = unread_timeout_s

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
        # Whoever asks has proved itself: with a gate there is TLS.
        if self._gate is not None and request.events_key:
            self._gate.admit(request.events_key)
        return self._info

    async def GetTokenizer(
        self, request: pb.GetTokenizerRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.TokenizerChunk]:
        for name, data in self._sessions.tokenizer.files().items():
            starts = range(0, max(1, len(data)), _TOKENIZER_CHUNK_BYTES)
            for start in starts:
                yield pb.TokenizerChunk(
                    file_name="" if start else name,
                    data=data[start : start + _TOKENIZER_CHUNK_BYTES],
                    last=start == starts[-1],
                )

    async def Session(
        self, requests: AsyncIterator[pb.EngineRequest], context: grpc.aio.ServicerContext
    ) -> None:
        hello = await self._hello(context)
        session = self._sessions.open(hello.router_id, takes_columns=hello.takes_columns)
        reading = asyncio.create_task(self._read(session, context))
        try:
            await self._write(session, pb.StepOutput(opened=True), context)
            while (message := await session.next_output()) is not None:
                await self._write(session, message, context)
        finally:
            reading.cancel()
            session.close()
        (ended,) = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(ended, Exception):
            _log.error("reading a session failed", exc_info=ended)
        if not self._sessions.is_open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, ENGINE_GONE)

    async def Generate(self, request: pb.SubmitRequest, context: grpc.aio.ServicerContext) -> None:
        session = self._sessions.open_direct(request.request_id[:MAX_ID_LEN])
        try:
            # What clients may not set is kept out of verbatim requests by routers alone.
            if request.HasField("verbatim"):
                raise InvalidRequest("verbatim", "is for routers: ask one of them")
            submission = self._intakes().submit(request)
            if submission is None:
                raise InvalidRequest("more_chunks", "Generate takes a prompt in one message")
            session.submit(submission)
            while (message := await session.next_output()) is not None:
                for delta in message.deltas:
                    await self._write(session, delta, context)
                    if delta.finish_reason:
                        return
        except NoRoom as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except InvalidRequest as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except EngineDead:
            pass
        finally:
            session.close()
        await context.abort(grpc.StatusCode.UNAVAILABLE, ENGINE_GONE)

    async def _hello(self, context: grpc.aio.ServicerContext) -> pb.OpenSession:
        if not self._sessions.is_open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, ENGINE_GONE)
        first = await context.read()
        reason = why_not_opened(pb.EngineRequest() if first is grpc.aio.EOF else first)
        if reason:
            is_version = first is not grpc.aio.EOF and first.WhichOneof("kind") == "open"
            code = grpc.StatusCode
            await context.abort(
                code.FAILED_PRECONDITION if is_version else code.INVALID_ARGUMENT, reason
            )
        hello: pb.OpenSession = first.open
        return hello

    async def _read(self, session: WorkerSession, context: grpc.aio.ServicerContext) -> None:
        """Take messages until the router closes its side; then the worker session is over."""
        intake = self._intakes()
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                take(session, intake, message)
        finally:
            session.close()

    async def _write(
        self,
        session: WorkerSession,
        message: pb.StepOutput | pb.TokenDelta,
        context: grpc.aio.ServicerContext,
    ) -> None:
        try:
            async with asyncio.timeout(self._unread_timeout_s):
                await context.write(message)
        except TimeoutError:
            self._sessions.unread += 1
            session.close()
            text = f"nothing was read for {self._unread_timeout_s:g} s"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)


class WorkerServer:
    """The listening server: `start`, `report_ending`, `stop`."""

    def __init__(
        self, settings: WorkerSettings, engine: EngineServer, identity: Identity | None = None
    ) -> None:
        """`identity`: None: in the clear."""
        require_safe_host(settings)
        self._settings = settings
        self._identity = identity
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(settings))
        rpc.add_EngineServicer_to_server(engine, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> int:
        """Bind and serve; returns the port. Raises `PortInUse`."""
        host, port = self._settings.host, self._settings.port
        bracketed = f"[{host}]" if ":" in host else host
        target = f"{bracketed}:{port}"
        try:
            if self._identity is None:
                bound = self._server.add_insecure_port(target)
            else:
                credentials = self._identity.server_credentials()
                bound = self._server.add_secure_port(target, credentials)
        except RuntimeError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: choose another worker.port, or 0"
            ) from error
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return int(bound)

    async def report_ending(self) -> None:
        """Send nothing here any more: health says so, whoever asks."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self) -> None:
        await self._server.stop(grace=None)

    async def _set_health(self, status: int) -> None:
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)


def require_safe_host(settings: WorkerSettings) -> None:
    """Refuse a bind that others can reach, unless routers must prove themselves or it was asked for
    in so many words."""
    is_guarded = settings.insecure_bind or settings.tls_cert_file
    if not is_guarded and not is_loopback(settings.host):
        raise UnsafeBind(
            f"worker.host {settings.host!r} can be reached from other machines and nothing guards"
            " this worker: use 127.0.0.1, give it worker.tls_cert_file, tls_key_file and"
            " tls_ca_file (`radixroute certs` makes them), or allow it with worker.insecure_bind"
            " (--insecure-bind) on a network you trust"
        )


def _options(settings: WorkerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second worker on this port must fail, not share it
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        *_KEEPALIVE,
    ]
