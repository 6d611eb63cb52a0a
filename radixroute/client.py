"""Clients of a router: requests in, answers streamed out; and its inspection. Blocking and asyncio.

Own one gRPC channel each; what fails is told in our words (`radixroute/call_errors.py`). A router
that is lost in the middle of an answer is asked again, and the answer goes on where it was
(`radixroute/lasting_stream.py`); so is one that answered this client before and is not there now;
nothing else is retried: a failed request stays visible. Used by
the command line, the demo and whoever writes Python. A client belongs to one thread or event loop.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from radixroute.answer import Delta, Prompt, Routing, delta_of, request_of
from radixroute.call_errors import MAX_MESSAGE_BYTES, check_size, translated
from radixroute.lasting_answers import LastingAnswers
from radixroute.lasting_stream import LastingStream
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc
from radixroute.request.limits import PartialSampling

INSPECT_TIMEOUT_S = 10.0
GENERATE_TIMEOUT_S = 600.0  # as the router's own hard end of a request
LOST_ROUTER_WAIT_S = 60.0  # a loaded machine takes half of it to start another
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a router that died is back in seconds
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is not for the own cluster
)
_STUBS: Any = radixroute_pb2_grpc  # generated without annotations


class _Client:
    """What both clients are made with: one channel, its stubs, and how long they wait."""

    _grpc: Any  # the module with the channels

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = GENERATE_TIMEOUT_S,
        inspect_timeout_s: float = INSPECT_TIMEOUT_S,
        lost_router_wait_s: float = LOST_ROUTER_WAIT_S,
        api_key: str = "",
        ca_file: str = "",
    ) -> None:
        """`timeout_s`: of one answer. `inspect_timeout_s`: of every other call. `api_key`: for a
        router that asks for one. `ca_file`: PEM of who signed its certificate; empty: no TLS.

        `lost_router_wait_s`: so long an answer waits for a router to go on with it; 0: not at all.
        """
        self._address, self._timeout_s = address, timeout_s
        self._inspect_timeout_s = inspect_timeout_s
        self._lost_router_wait_s = lost_router_wait_s
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else None
        self._has_answered = False  # a router, here
        self._channel = self._open(address, ca_file)
        self._router = _STUBS.RouterStub(self._channel)
        self._inspect = _STUBS.InspectStub(self._channel)
        self._insight = _STUBS.InsightStub(self._channel)
        self._admin = _STUBS.AdminStub(self._channel)

    def _open(self, address: str, ca_file: str) -> Any:
        if not ca_file:
            return self._grpc.insecure_channel(address, options=OPTIONS)
        credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
        return self._grpc.secure_channel(address, credentials, options=OPTIONS)

    def _answers(
        self, prompt: Prompt, sampling: PartialSampling | None, routing: Routing
    ) -> LastingAnswers:
        request = request_of(prompt, sampling, routing)
        check_size(request.ByteSize())
        stream = partial(
            LastingStream,
            timeout_s=self._timeout_s,
            patience_s=self._lost_router_wait_s,
            clock_s=time.monotonic,
            is_known=self._has_answered,
        )
        return LastingAnswers(request, stream)


class RouterClient(_Client):
    """Blocking client. `with RouterClient("127.0.0.1:50051") as router: ...`"""

    _grpc = grpc

    def generate(  # noqa: PLR0913 - all but the first two may be left out
        self,
        prompt: Prompt,
        sampling: PartialSampling | None = None,
        *,
        policy: str = "",
        session_key: str = "",
        model: str = "",
        tenant: str = "",
        priority: int | None = None,
        cache_salt: str = "",
        lora: str = "",
        last_of_session: int | None = None,
    ) -> Iterator[Delta]:
        """The answer as it comes. Leaving the loop early, or closing it, aborts the request.

        A string is what a user says: it goes through the model's chat template, as in `radixroute
        submit`. `RawText` is continued as it stands. `tenant`: whose share of the workers' time it
        takes. `priority`: band 0 (first) to 9; None: 5. `cache_salt`: a secret; blocks cached under
        it serve requests with the same one alone. `lora`: an adapter that workers serve.
        `last_of_session`: this is the last request of its session, which had so many with it; what
        only that session used then leaves a full cache earlier. None: others may come.
        `sampling.n` answers come together, each piece with its `index`.
        """
        routing = Routing(
            policy, session_key, model, tenant, priority, cache_salt, lora, last_of_session
        )
        answers = self._answers(prompt, sampling, routing)
        while (request := answers.request) is not None:
            pause_s = 0.0
            call = self._router.Generate(request, timeout=answers.left_s, metadata=self._metadata)
            try:
                for response in call:
                    self._has_answered = True
                    yield delta_of(answers.take(response))
                answers.ended()
            except grpc.RpcError as error:
                until_next_s = answers.pause_s(error)
                if until_next_s is None:
                    raise translated(error, self._address, self._timeout_s) from error
                pause_s = until_next_s
            finally:
                call.cancel()
            time.sleep(pause_s)

    def list_workers(self) -> pb.ListWorkersResponse:
        answer: pb.ListWorkersResponse = self._ask("ListWorkers", pb.ListWorkersRequest())
        return answer

    def hit_rates(self) -> pb.HitRatesResponse:
        answer: pb.HitRatesResponse = self._ask("HitRates", pb.HitRatesRequest())
        return answer

    def explain(self, request_id: str) -> pb.ExplainResponse:
        """Why a request went where it went. Raises `RequestRefused` for an id not in the log."""
        request = pb.ExplainRequest(request_id=request_id)
        answer: pb.ExplainResponse = self._ask("Explain", request)
        return answer

    def router_info(self) -> pb.RouterInfoResponse:
        answer: pb.RouterInfoResponse = self._ask("RouterInfo", pb.RouterInfoRequest())
        return answer

    def request_log(self, after: int) -> pb.RequestLogResponse:
        """A page of ended requests with numbers above `after`."""
        request = pb.RequestLogRequest(after=after)
        answer: pb.RequestLogResponse = self._ask("RequestLog", request)
        return answer

    def switch(self, request: pb.SwitchRequest) -> pb.SwitchResponse:
        """Tries another policy, ends that or keeps it; as it stands then. From the router's machine
        alone. Raises `RequestRefused`."""
        answer: pb.SwitchResponse = self._ask("Switch", request, self._admin)
        return answer

    def misses(self, window_s: float = 0.0) -> pb.MissesResponse:
        """Why prompt tokens were missed, over so many seconds back from now; 0: all that is kept.
        Raises `RequestRefused` where the router keeps nothing of it."""
        answer: pb.MissesResponse = self._ask(
            "Misses", pb.MissesRequest(window_s=window_s), self._insight
        )
        return answer

    def shadows(self, request_id: str = "") -> pb.ShadowsResponse:
        """What other policies would have made of the same requests, and of this one. Raises
        `RequestRefused` where the router has no shadows."""
        request = pb.ShadowsRequest(request_id=request_id)
        answer: pb.ShadowsResponse = self._ask("Shadows", request, self._insight)
        return answer

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, method: str, request: object, stub: Any = None) -> Any:
        try:
            answer = getattr(stub or self._inspect, method)(
                request, timeout=self._inspect_timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise translated(error, self._address, self._inspect_timeout_s) from error
        self._has_answered = True
        return answer


class AsyncRouterClient(_Client):
    """The same for asyncio. Make it inside the running loop and close it there."""

    _grpc = grpc.aio

    async def generate(  # noqa: PLR0913 - all but the first two may be left out
        self,
        prompt: Prompt,
        sampling: PartialSampling | None = None,
        *,
        policy: str = "",
        session_key: str = "",
        model: str = "",
        tenant: str = "",
        priority: int | None = None,
        cache_salt: str = "",
        lora: str = "",
        last_of_session: int | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """The answer as it comes. Closing the iterator, or cancelling its task, aborts it.

        All mean the same as for `RouterClient.generate`.
        """
        routing = Routing(
            policy, session_key, model, tenant, priority, cache_salt, lora, last_of_session
        )
        answers = self._answers(prompt, sampling, routing)
        while (request := answers.request) is not None:
            pause_s = 0.0
            call = self._router.Generate(request, timeout=answers.left_s, metadata=self._metadata)
            try:
                async for response in call:
                    self._has_answered = True
                    yield delta_of(answers.take(response))
                answers.ended()
            except grpc.RpcError as error:
                until_next_s = answers.pause_s(error)
                if until_next_s is None:
                    raise translated(error, self._address, self._timeout_s) from error
                pause_s = until_next_s
            finally:
                call.cancel()
            await asyncio.sleep(pause_s)

    async def list_workers(self) -> pb.ListWorkersResponse:
        answer: pb.ListWorkersResponse = await self._ask("ListWorkers", pb.ListWorkersRequest())
        return answer

    async def hit_rates(self) -> pb.HitRatesResponse:
        answer: pb.HitRatesResponse = await self._ask("HitRates", pb.HitRatesRequest())
        return answer

    async def explain(self, request_id: str) -> pb.ExplainResponse:
        """Why a request went where it went. Raises `RequestRefused` for an id not in the log."""
        request = pb.ExplainRequest(request_id=request_id)
        answer: pb.ExplainResponse = await self._ask("Explain", request)
        return answer

    async def router_info(self) -> pb.RouterInfoResponse:
        answer: pb.RouterInfoResponse = await self._ask("RouterInfo", pb.RouterInfoRequest())
        return answer

    async def request_log(self, after: int) -> pb.RequestLogResponse:
        """A page of ended requests with numbers above `after`."""
        request = pb.RequestLogRequest(after=after)
        answer: pb.RequestLogResponse = await self._ask("RequestLog", request)
        return answer

    async def misses(self, window_s: float = 0.0) -> pb.MissesResponse:
        answer: pb.MissesResponse = await self._ask(
            "Misses", pb.MissesRequest(window_s=window_s), self._insight
        )
        return answer

    async def shadows(self, request_id: str = "") -> pb.ShadowsResponse:
        request = pb.ShadowsRequest(request_id=request_id)
        answer: pb.ShadowsResponse = await self._ask("Shadows", request, self._insight)
        return answer

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, method: str, request: object, stub: Any = None) -> Any:
        try:
            answer = await getattr(stub or self._inspect, method)(
                request, timeout=self._inspect_timeout_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise translated(error, self._address, self._inspect_timeout_s) from error
        self._has_answered = True
        return answer
