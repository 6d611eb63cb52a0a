"""Leases: `Route` and `Release`, each a call or many on one stream.

`LeaseDesk` is what both share. A `RouteStream` owns what its client has asked and not been told
yet: one task for each Route that is under way, bounded, and the answers that wait to be written.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from math import ceil
from typing import Final

from msgspec.structs import replace

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.errors import InvalidRequest
from radixroute.request.wire import pack_tokens, sampling_to_proto, scope_to_proto
from radixroute.router.api.grpc.client_stream import Bell
from radixroute.router.api.grpc.proto_request import ProtoRequest
from radixroute.router.api.reception import Reception
from radixroute.router.api.status import failure_error, status_of
from radixroute.router.errors import RouterError
from radixroute.router.messages.actions import Failure
from radixroute.router.settings import RouterSettings

_log = logging.getLogger(__name__)

# Of one stream, asked and not yet taken by its client: then nothing more is read of it.
MOST_OPEN: Final = 1024


class LeaseDesk:
    """Of one router."""

    def __init__(self, reception: Reception, settings: RouterSettings) -> None:
        self._reception = reception
        self._runtime = reception.runtime
        self._ttl_ms = round(settings.lease_unseen_s * 1000)

    async def route(
        self, asked: ProtoRequest, request_id: str, *, remaining_s: float | None
    ) -> pb.RouteResponse:
        """`remaining_s`: to the client's deadline. Raises RouterError and InvalidRequest."""
        if asked.message.HasField("resume"):
            raise InvalidRequest("resume", "goes on with a stream of a router: use Generate")
        if asked.n > 1:
            raise InvalidRequest("n", "is more than one; a lease is for one answer")
        lease_id = self._reception.draw_id(asked.message.tenant)
        try:
            spec = await self._reception.admit(asked, request_id, remaining_s=remaining_s)
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
            ttl_ms=self._ttl_ms,
            sampling=sampling_to_proto(spec.sampling),
            scope=scope_to_proto(spec.scope),
            last_of_session=spec.last_of_session or 0,
        )

    def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return pb.ReleaseResponse(released=self._runtime.release(request.lease_id))


class RouteStream:
    """Of one call. `read` takes its client's messages, `take` gives the answers."""

    def __init__(self, desk: LeaseDesk, reception: Reception, authorization: str) -> None:
        """`authorization`: the call's; its key is looked up for each message, as for a call."""
        self._desk = desk
        self._reception = reception
        self._authorization = authorization
        self._answers: deque[pb.RouteStreamResponse] = deque()
        self._open: set[asyncio.Task[None]] = set()
        self._bell = Bell()  # an answer is there, or there will be none
        self._room = Bell()
        self._is_read = False  # its client says no more

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        """Until its client says no more."""
        try:
            async for data in messages:
                self._begin(data)
                while len(self._open) + len(self._answers) >= MOST_OPEN:
                    await self._room.wait()
        finally:
            self._is_read = True
            self._bell.ring()

    async def take(self) -> pb.RouteStreamResponse | None:
        """The next answer; None after the last."""
        while not self._answers:
            if self._is_read and not self._open:
                return None
            await self._bell.wait()
        self._room.ring()
        return self._answers.popleft()

    def close(self) -> None:
        """Nobody waits for what is not answered yet."""
        for task in self._open:
            task.cancel()

    def _begin(self, data: bytes) -> None:
        request_id, number = "", 0
        try:
            message, asked = ProtoRequest.of_stream(data)
            number = message.number
            if asked is not None:
                tenant = self._reception.tenant_of(self._authorization, asked.message.tenant)
                asked.message.tenant = tenant
                request_id = self._reception.draw_id(tenant)
                task = asyncio.create_task(self._route(number, asked, request_id))
                self._open.add(task)
                task.add_done_callback(self._ended)
                return
            self._reception.tenant_of(self._authorization)
            if not message.HasField("release"):
                raise InvalidRequest("kind", "is neither a route nor a release")
            released = self._desk.release(message.release)
            self._answer(pb.RouteStreamResponse(number=number, release=released))
        except (RouterError, InvalidRequest) as error:
            self._fail(number, error, request_id)

    async def _route(self, number: int, asked: ProtoRequest, request_id: str) -> None:
        try:
            routed = await self._desk.route(asked, request_id, remaining_s=None)
        except (RouterError, InvalidRequest) as error:
            self._fail(number, error, request_id)
        except Exception as error:  # noqa: BLE001 - its text may say anything
            _log.exception("request %s failed inside the router", request_id)
            self._fail(number, error, request_id)
        else:
            self._answer(pb.RouteStreamResponse(number=number, route=routed))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._room.ring()
        self._bell.ring()

    def _fail(self, number: int, error: Exception, request_id: str) -> None:
        """`request_id`: empty: it has none of its tenant's yet, so it gets one of nobody's."""
        self._reception.refused(error)
        code, text = status_of(error, request_id or self._reception.draw_id(""))
        after_ms = self._reception.retry_after_ms(error)
        failure = pb.RouteFailure(
            code=code.value[0],
            message=text,
            retry_after_ms=0 if after_ms is None else ceil(after_ms),
        )
        self._answer(pb.RouteStreamResponse(number=number, failure=failure))

    def _answer(self, answer: pb.RouteStreamResponse) -> None:
        self._answers.append(answer)
        self._bell.ring()
