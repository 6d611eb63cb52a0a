"""gRPC servers of `Router` and `Inspect`: messages in, messages out; decisions are the core's.

One handler coroutine for each request;
when its client goes, gRPC cancels it and the request is aborted. No exception text of ours or of a
library travels.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.errors import BrokenInvariant
from radixroute.request.errors import InvalidRequest
from radixroute.router.api.grpc import inspect
from radixroute.router.api.grpc.client_answers import ClientAnswers
from radixroute.router.api.grpc.coalescing import Coalescing
from radixroute.router.api.grpc.leases import LeaseDesk, RouteStream
from radixroute.router.api.grpc.proto_request import ProtoRequest
from radixroute.router.api.grpc.unread import UnreadWatch
from radixroute.router.api.guard.inspect_guard import authorization
from radixroute.router.api.reception import Reception
from radixroute.router.api.status import retry_hint, status_of
from radixroute.router.counters import Count
from radixroute.router.errors import (
    RouterError,
    UnknownRequest,
)
from radixroute.router.messages.inputs import RequestSpec
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings

_log = logging.getLogger(__name__)

SERVICE_NAME = "radixroute.v1.Router"
MAX_ID_LEN = 64  # of what a client sends as an id and gets back in an error


class RouterServer:
    """`radixroute.v1.Router`."""

    def __init__(self, reception: Reception, settings: RouterSettings) -> None:
        self._reception = reception
        self._desk = LeaseDesk(reception, settings)
        self._coalescing = Coalescing(time.monotonic)
        self._unread = UnreadWatch(
            settings.client_unread_timeout_s,
            lambda: reception.runtime.core.count(Count.CLIENTS_UNREAD),
        )

    def add_to(self, server: grpc.aio.Server) -> None:
        """All but Release get their requests as bytes: some are too large to be parsed."""
        handlers = {
            # What it answers is bytes, too: there is a message a token.
            "Generate": grpc.unary_stream_rpc_method_handler(self.Generate),
            "Route": grpc.unary_unary_rpc_method_handler(
                self.Route, response_serializer=pb.RouteResponse.SerializeToString
            ),
            "RouteStream": grpc.stream_stream_rpc_method_handler(
                self.RouteStream, response_serializer=pb.RouteStreamResponse.SerializeToString
            ),
            "Release": grpc.unary_unary_rpc_method_handler(
                self.Release,
                request_deserializer=pb.ReleaseRequest.FromString,
                response_serializer=pb.ReleaseResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),)
        )

    async def Generate(self, data: bytes, context: grpc.aio.ServicerContext) -> None:
        asked = await self._parsed(ProtoRequest.of_generate, data, context)
        request = asked.message
        request_id = self._reception.id_of(request.resume.request_id, request.tenant)
        answers = ClientAnswers(request_id, request.resume.number, self._coalescing)
        async with self._clean_errors(context, request_id):
            if request.HasField("resume") and request_id != request.resume.request_id:
                raise UnknownRequest("no stream of this tenant has the id that `resume` names")
            try:
                self._reception.claim(answers.first)
                spec = await self._admit(asked, request_id, context)
                self._submit(spec, asked.n, answers)
                await self._answer(answers, context)
            finally:
                for stream in answers:
                    self._reception.release(stream)

    async def _answer(
        self, answers: ClientAnswers | RouteStream, context: grpc.aio.ServicerContext
    ) -> None:
        """A client that reads nothing for long gives its answer up."""
        now_s = asyncio.get_running_loop().time
        async with self._unread.watch() as writing:
            while (message := await answers.take()) is not None:
                writing.since_s = now_s()
                await context.write(message)
                writing.since_s = None

    def _submit(self, spec: RequestSpec, n: int, answers: ClientAnswers) -> None:
        specs = self._reception.fan_out(spec, n)
        for one in specs[1:]:
            self._reception.claim(answers.add(one.request_id))
        for one, stream in zip(specs, answers, strict=True):
            stream.sampling = one.sampling
            self._reception.submit(one, stream)

    async def Route(self, data: bytes, context: grpc.aio.ServicerContext) -> pb.RouteResponse:
        asked = await self._parsed(ProtoRequest.of_route, data, context)
        request_id = self._reception.draw_id(asked.message.tenant)
        async with self._clean_errors(context, request_id):
            return await self._desk.route(asked, request_id, remaining_s=context.time_remaining())
        raise BrokenInvariant("an error was sent and the call went on")

    async def RouteStream(
        self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> None:
        stream = RouteStream(self._desk, self._reception, authorization(context))
        async with self._clean_errors(context):
            self._reception.tenant_of(authorization(context))
            reading = asyncio.create_task(stream.read(messages))
            try:
                await self._answer(stream, context)
            finally:
                reading.cancel()
                stream.close()

    async def Release(
        self, request: pb.ReleaseRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReleaseResponse:
        async with self._clean_errors(context):
            self._reception.tenant_of(authorization(context))
            return self._desk.release(request)
        raise BrokenInvariant("an error was sent and the call went on")

    async def _parsed(
        self,
        parse: Callable[[bytes], ProtoRequest],
        data: bytes,
        context: grpc.aio.ServicerContext,
    ) -> ProtoRequest:
        async with self._clean_errors(context):
            told = authorization(context)
            self._reception.tenant_of(told)  # before anything is parsed
            asked = parse(data)
            asked.message.tenant = self._reception.tenant_of(told, asked.message.tenant)
            return asked
        raise BrokenInvariant("an error was sent and the call went on")

    async def _admit(
        self, asked: ProtoRequest, request_id: str, context: grpc.aio.ServicerContext
    ) -> RequestSpec:
        return await self._reception.admit(asked, request_id, remaining_s=context.time_remaining())

    def _retry_hint(self, error: Exception) -> tuple[tuple[str, str | bytes], ...]:
        """As gRPC and Google's error model say it."""
        after_ms = self._reception.retry_after_ms(error)
        return () if after_ms is None else retry_hint(*status_of(error, ""), after_ms)

    @asynccontextmanager
    async def _clean_errors(
        self, context: grpc.aio.ServicerContext, request_id: str = ""
    ) -> AsyncIterator[None]:
        """`request_id`: empty: it has none of its tenant's yet, an error gets one of nobody's."""
        try:
            yield
        except (RouterError, InvalidRequest) as error:
            self._reception.refused(error)
            code, details = status_of(error, request_id or self._reception.draw_id(""))
            await context.abort(code, details, self._retry_hint(error))
        except Exception as error:  # noqa: BLE001 - gRPC would send the text of whatever it is
            request_id = request_id or self._reception.draw_id("")
            _log.exception("request %s failed inside the router", request_id)
            await context.abort(*status_of(error, request_id))


class InspectServer:
    """`radixroute.v1.Inspect`."""

    def __init__(
        self,
        runtime: RouterRuntime,
        settings: RouterSettings,
        log_id: str,
        addresses: Callable[[], tuple[object | None, object | None]],
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._log_id = log_id  # drawn at start: who reads the request log sees a restart
        self._addresses = addresses  # host:port of metrics and HTTP; None: there is none

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListWorkersResponse:
        return inspect.list_workers(self._runtime)

    async def HitRates(
        self, request: pb.HitRatesRequest, context: grpc.aio.ServicerContext
    ) -> pb.HitRatesResponse:
        return inspect.hit_rates(self._runtime)

    async def Explain(
        self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> pb.ExplainResponse:
        try:
            entry = self._runtime.core.logged(request.request_id)
        except RouterError as error:
            await context.abort(*status_of(error, request.request_id[:MAX_ID_LEN]))
            raise
        workers = self._runtime.core.snapshot().workers
        believed = [worker.worker_id for worker in workers if worker.audit.is_believed]
        return inspect.explain(entry, self._runtime.core.scores, believed)

    async def RouterInfo(
        self, request: pb.RouterInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.RouterInfoResponse:
        page, door = ("" if one is None else str(one) for one in self._addresses())
        return inspect.router_info(self._runtime, page, door)

    async def RequestLog(
        self, request: pb.RequestLogRequest, context: grpc.aio.ServicerContext
    ) -> pb.RequestLogResponse:
        return inspect.request_log(self._runtime, self._log_id, request.after)
