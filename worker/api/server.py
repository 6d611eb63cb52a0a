"""Server: the worker's gRPC services, `Engine` and `grpc.health.v1`. Bytes in, bytes out.

Owns the listening server and its port; streams belong to `WorkerSessions`. Never decides anything.
Each stream has one coroutine that writes and one that reads; a stream that breaks, closes or is not
read for too long closes its worker session, which aborts its requests. On one event loop; called by
`WorkerService`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from radixroute.events.net.bind import is_loopback
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.errors import InvalidRequest, NoRoom
from radixroute.request.limits import Limits
from radixroute.request.sampling import FinishReason
from radixroute.worker.api.intake import MAX_ID_LEN, Intake
from radixroute.worker.api.worker_sessions import WorkerSession, WorkerSessions
from radixroute.worker.engine.engine import refused_as
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
_ENGINE_GONE = "the engine has ended; send the request to another worker"
_log = logging.getLogger(__name__)


class EngineServer(rpc.EngineServicer):
    """Answers the calls of `radixroute.v1.Engine`."""

    def __init__(
        self, sessions: WorkerSessions, info: pb.GetInfoResponse, unread_timeout_s: float
    ) -> None:
        self.unread_sessions = 0
        self._sessions = sessions
        self._info = info
        self._limits = Limits(info.max_model_len, info.vocab_size)
        self._unread_timeout_s = unread_timeout_s

    async def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetInfoResponse:
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
        session = self._sessions.open(hello.router_id)
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
            await context.abort(grpc.StatusCode.UNAVAILABLE, _ENGINE_GONE)

    async def Generate(self, request: pb.SubmitRequest, context: grpc.aio.ServicerContext) -> None:
        session = self._sessions.open_direct(request.request_id[:MAX_ID_LEN])
        try:
            submission = Intake(self._limits).submit(request)
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
        await context.abort(grpc.StatusCode.UNAVAILABLE, _ENGINE_GONE)

    async def _hello(self, context: grpc.aio.ServicerContext) -> pb.OpenSession:
        if not self._sessions.is_open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, _ENGINE_GONE)
        first = await context.read()
        if first is grpc.aio.EOF or first.WhichOneof("kind") != "open":
            text = "the first message of a session must be `open`"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        if first.open.api_version != API_VERSION:
            text = f"this worker speaks api version {API_VERSION}, not {first.open.api_version}"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        hello: pb.OpenSession = first.open
        return hello

    async def _read(self, session: WorkerSession, context: grpc.aio.ServicerContext) -> None:
        """Take messages until the router closes its side; then the worker session is over."""
        intake = Intake(self._limits)
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                _take(session, intake, message)
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
            self.unread_sessions += 1
            session.close()
            text = f"nothing was read for {self._unread_timeout_s:g} s"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)


def _take(session: WorkerSession, intake: Intake, message: pb.EngineRequest) -> None:
    """One message of a worker session. A bad request ends itself, never the session."""
    match message.WhichOneof("kind"):
        case "submit":
            request_id, attempt = message.submit.request_id, message.submit.attempt
        case "chunk":
            request_id, attempt = message.chunk.request_id, message.chunk.attempt
        case "abort":
            if not intake.forget(message.abort.request_id, message.abort.attempt):
                session.abort(message.abort.request_id, message.abort.attempt)
            return
        case "inquire":
            names = [(one.request_id, one.attempt) for one in message.inquire.attempts]
            session.inquire([name for name in names if not intake.has(*name)])
            return
        case _:
            return  # a message of a newer v1: additions must not end old sessions
    try:
        if message.WhichOneof("kind") == "submit":
            submission = intake.submit(message.submit)
        else:
            submission = intake.chunk(message.chunk)
        if submission is not None:
            session.submit(submission)
    except InvalidRequest as error:
        session.refuse(request_id, attempt, refused_as(error), str(error))
    except EngineDead:
        session.refuse(request_id, attempt, FinishReason.ERROR, _ENGINE_GONE)


class WorkerServer:
    """The listening server: `start`, `report_ending`, `stop`."""

    def __init__(self, settings: WorkerSettings, engine: EngineServer) -> None:
        require_safe_host(settings)
        self._settings = settings
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(settings))
        rpc.add_EngineServicer_to_server(engine, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> int:
        """Bind and serve; returns the port. Raises `PortInUse`."""
        host, port = self._settings.host, self._settings.port
        bracketed = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{bracketed}:{port}")
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
    """Refuse a bind that others can reach, unless it was asked for in so many words."""
    if not settings.insecure_bind and not is_loopback(settings.host):
        raise UnsafeBind(
            f"{settings.host} can be reached from other machines and nothing guards this worker: "
            "use 127.0.0.1, or set insecure_bind on a network you trust"
        )


def _options(settings: WorkerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second worker on this port must fail, not share it
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        *_KEEPALIVE,
    ]
