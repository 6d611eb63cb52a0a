"""gRPC servers of `Router` and `Inspect`: messages in, messages out; decisions are the core's.

Owns which streams are open and the request ids it draws. One handler coroutine for each request;
when its client goes, gRPC cancels it and the request is aborted. No exception text of ours or of a
library travels.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.errors import BrokenInvariant
from radixroute.request.errors import InvalidRequest
from radixroute.request.wire import pack_tokens, sampling_to_proto, scope_to_proto
from radixroute.router.api import inspect
from radixroute.router.api.client_stream import ClientStream
from radixroute.router.api.open_streams import OpenStreams
from radixroute.router.api.prompts import PromptReader
from radixroute.router.api.proto_request import ProtoRequest
from radixroute.router.api.request_ids import RequestIds
from radixroute.router.api.status import failure_error, retry_hint, status_of
from radixroute.router.counters import Count
from radixroute.router.errors import (
    ClientUnread,
    Draining,
    RequestRejected,
    RouterError,
    Superseded,
    TryLater,
    UnknownRequest,
)
from radixroute.router.messages.actions import Failure
from radixroute.router.messages.inputs import TOKEN_BYTES, RequestSpec
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings

_log = logging.getLogger(__name__)

SERVICE_NAME = "radixroute.v1.Router"
MAX_ID_LEN = 64  # of what a client sends as an id and gets back in an error


class RouterServer:
    """`radixroute.v1.Router`."""

    def __init__(
        self,
        runtime: RouterRuntime,
        settings: RouterSettings,
        prompts: PromptReader,
        rng: random.Random,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._prompts = prompts
        self._rng = rng  # of ids and sampling seeds; unguessable in a live router
        self._ids = RequestIds(settings.cluster_secret, rng)
        self._open = OpenStreams()
        self._is_draining = False

    @property
    def n_open(self) -> int:
        """Answers that clients still read or wait for."""
        return len(self._open) + self._runtime.n_leases_asked

    def drain(self) -> None:
        """From now on nothing new comes in; what is in goes on."""
        self._is_draining = True

    def add_to(self, server: grpc.aio.Server) -> None:
        """Generate and Route get their requests as bytes: some are too large to be parsed."""
        handlers = {
            "Generate": grpc.unary_stream_rpc_method_handler(
                self.Generate, response_serializer=pb.GenerateResponse.SerializeToString
            ),
            "Route": grpc.unary_unary_rpc_method_handler(
                self.Route, response_serializer=pb.RouteResponse.SerializeToString
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
        request_id = self._id_of(request)
        stream = ClientStream(request_id, request.resume.number)
        async with self._clean_errors(context, request_id):
            if request.HasField("resume") and request_id != request.resume.request_id:
                raise UnknownRequest("no stream of this tenant has the id that `resume` names")
            try:
                self._claim(stream)
                spec = await self._read(asked, request_id, context)
                self._open.require(stream)
                stream.sampling = spec.sampling
                self._runtime.submit(spec, stream)
                while (message := await stream.take()) is not None:
                    await self._write(message, context)
            finally:
                if self._open.release(stream):
                    self._runtime.abort(request_id)

    async def Route(self, data: bytes, context: grpc.aio.ServicerContext) -> pb.RouteResponse:
        asked = await self._parsed(ProtoRequest.of_route, data, context)
        tenant = asked.message.tenant
        request_id, lease_id = self._ids.draw(tenant), self._ids.draw(tenant)
        async with self._clean_errors(context, request_id):
            if asked.message.HasField("resume"):
                raise InvalidRequest("resume", "goes on with a stream of a router: use Generate")
            try:
                spec = await self._read(asked, request_id, context)
                answer = await self._runtime.lease(replace(spec, lease_id=lease_id))
            except BaseException:
                self._runtime.core.leave(request_id)
                raise
            if isinstance(answer, Failure):
                raise failure_error(answer)
        return pb.RouteResponse(
            lease_id=answer.lease_id,
            request_id=request_id,
            worker_id=answer.worker_id,
            address=answer.address,
            token_ids=pack_tokens(spec.prompt),
            overlap_tokens=answer.overlap_tokens,
            ttl_ms=round(self._settings.lease_unseen_s * 1000),
            sampling=sampling_to_proto(spec.sampling),
            scope=scope_to_proto(spec.scope),
        )

    async def Release(
        self, request: pb.ReleaseRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReleaseResponse:
        return pb.ReleaseResponse(released=self._runtime.release(request.lease_id))

    async def _parsed(
        self,
        parse: Callable[[bytes], ProtoRequest],
        data: bytes,
        context: grpc.aio.ServicerContext,
    ) -> ProtoRequest:
        """Before it has an id of its tenant's there is one of nobody's, for the error."""
        async with self._clean_errors(context, self._ids.draw("")):
            return parse(data)
        raise BrokenInvariant("an error was sent and the call went on")

    async def _read(
        self, asked: ProtoRequest, request_id: str, context: grpc.aio.ServicerContext
    ) -> RequestSpec:
        if self._is_draining:
            self._runtime.core.count(Count.REFUSED_DRAINING)
            raise Draining("this router is ending: ask another one, or again in a moment")
        n_bytes = asked.n_bytes + len(asked.message.resume.emitted_token_ids)
        tokens = None if asked.is_text else n_bytes // TOKEN_BYTES
        # Before anything that costs: a full house answers at once.
        if not self._runtime.core.enter(request_id, n_bytes=n_bytes, tokens=tokens):
            raise failure_error(Failure.QUEUE_FULL)
        return await self._prompts.read(
            asked,
            request_id,
            seed=self._rng.getrandbits(64),
            remaining_s=context.time_remaining(),
        )

    async def _write(self, message: pb.GenerateResponse, context: grpc.aio.ServicerContext) -> None:
        """A client that reads nothing for long gives its answer up."""
        try:
            async with asyncio.timeout(self._settings.client_unread_timeout_s):
                await context.write(message)
        except TimeoutError:
            self._runtime.core.count(Count.CLIENTS_UNREAD)
            raise ClientUnread("nothing was read of the answer for too long") from None

    def _retry_hint(self, error: Exception) -> tuple[tuple[str, str | bytes], ...]:
        """When to come back, for whoever may: as gRPC and Google's error model say it."""
        if not isinstance(error, TryLater):
            return ()
        return retry_hint(*status_of(error, ""), self._runtime.core.retry_after_ms)

    def _id_of(self, request: pb.GenerateRequest) -> str:
        """A resume's, if it is one of this tenant's; else a fresh one."""
        if self._ids.is_of(request.resume.request_id, request.tenant):
            return request.resume.request_id
        return self._ids.draw(request.tenant)

    def _claim(self, stream: ClientStream) -> None:
        """Before a second attempt starts, the first one is over: here, and at its worker."""
        try:
            if self._open.claim(stream):
                self._runtime.core.count(Count.STREAMS_SUPERSEDED)
                self._runtime.abort(stream.request_id)
        except Superseded:
            self._runtime.core.count(Count.STREAMS_SUPERSEDED)
            raise

    @asynccontextmanager
    async def _clean_errors(
        self, context: grpc.aio.ServicerContext, request_id: str
    ) -> AsyncIterator[None]:
        try:
            yield
        except (RouterError, InvalidRequest) as error:
            if isinstance(error, (InvalidRequest, RequestRejected)):
                self._runtime.core.count(Count.REQUESTS_REJECTED)
            code, details = status_of(error, request_id)
            await context.abort(code, details, self._retry_hint(error))
        except Exception as error:  # noqa: BLE001 - gRPC would send the text of whatever it is
            _log.exception("request %s failed inside the router", request_id)
            await context.abort(*status_of(error, request_id))


class InspectServer:
    """`radixroute.v1.Inspect`."""

    def __init__(
        self,
        runtime: RouterRuntime,
        settings: RouterSettings,
        log_id: str,
        metrics_address: Callable[[], object | None],
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._log_id = log_id  # drawn at start: who reads the request log sees a restart
        self._metrics_address = metrics_address  # host:port; None: no page

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
        return inspect.explain(entry, self._runtime.core.scores)

    async def RouterInfo(
        self, request: pb.RouterInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.RouterInfoResponse:
        page = self._metrics_address()
        return inspect.router_info(
            self._runtime, self._settings.policy, "" if page is None else str(page)
        )

    async def RequestLog(
        self, request: pb.RequestLogRequest, context: grpc.aio.ServicerContext
    ) -> pb.RequestLogResponse:
        return inspect.request_log(self._runtime, self._log_id, request.after)
