"""RouterService: one whole router in the running event loop. The composition root of the room.

Owns the clock, the random generators, the gRPC server, the event subscriber and the ticking task;
everything below gets them passed in. Whoever starts it chooses the loop (uvloop or not) and tells
it the members.
"""

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from radixroute.events.net.bind import is_loopback, why_not_free
from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.subscriber import EventSubscriber
from radixroute.events.warm import warm
from radixroute.metrics.page import Part
from radixroute.metrics.server import MetricsServer
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.api.giants.json_prompts import reader_of_ids
from radixroute.router.api.grpc.admin import AdminServer
from radixroute.router.api.grpc.server import SERVICE_NAME, InspectServer, RouterServer
from radixroute.router.api.guard.inspect_guard import InspectGuard
from radixroute.router.api.guard.keys import Keys
from radixroute.router.api.http.door import HttpDoor, http_door
from radixroute.router.api.metrics.sight import RouterSights
from radixroute.router.api.metrics.table import ROUTER_METRICS
from radixroute.router.api.prompts import PromptReader
from radixroute.router.api.random_bits import RandomBits
from radixroute.router.api.reception import Reception
from radixroute.router.core.logs.tape import Tape
from radixroute.router.core.router_core import RouterCore
from radixroute.router.errors import PortInUse, UnsafeBind
from radixroute.router.identities import door_identity, link_identity
from radixroute.router.links.channel import server_options
from radixroute.router.messages.inputs import AbsentWorker, MemberSpec
from radixroute.router.observer import Observed, Observer, ObserverOf
from radixroute.router.policy.registry import policy_named
from radixroute.router.policy.warm import warm as warm_policies
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings
from radixroute.router.ticker import Ticker
from radixroute.trust.identity import Identity

_log = logging.getLogger(__name__)

STOP_GRACE_S = 0.5
LOOPBACK = "127.0.0.1"
DRAIN_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class RouterAddress:
    """Where the router listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RouterService:
    """One router. `start` may be tried again after it raised; `stop` is final."""

    def __init__(self, settings: RouterSettings, observed_by: ObserverOf | None = None) -> None:
        """`observed_by`: who looks on; where nobody does, nothing is kept for it."""
        policy_named(settings.policy)
        router_id = settings.router_id or f"router-{secrets.token_hex(4)}"
        self._settings = replace(settings, router_id=router_id)
        self._server: grpc.aio.Server | None = None
        self._runtime: RouterRuntime | None = None
        self._subscriber: EventSubscriber | None = None
        self._prompts: PromptReader | None = None
        self._reception: Reception | None = None
        self._ticker: Ticker | None = None
        self._health = health.aio.HealthServicer()
        self._is_serving: bool | None = None
        self._address: RouterAddress | None = None
        self._metrics: MetricsServer | None = None
        self._metrics_address: RouterAddress | None = None
        self._door: HttpDoor | None = None
        self._http_address: RouterAddress | None = None
        self._identity: Identity | None = None  # of the doors
        self._observed_by = observed_by
        self._observer: Observer | None = None
        self._tape: Tape | None = None

    @property
    def runtime(self) -> RouterRuntime:
        """For inspection in the same process."""
        if self._runtime is None:
            raise RuntimeError("the router has not been started")
        return self._runtime

    @property
    def address(self) -> RouterAddress:
        """Where clients connect; known once started."""
        if self._address is None:
            raise RuntimeError("the router has not been started")
        return self._address

    @property
    def metrics_address(self) -> RouterAddress | None:
        """Where GET /metrics is answered; None: nowhere, or not started."""
        return self._metrics_address

    @property
    def http_address(self) -> RouterAddress | None:
        """Where the OpenAI API is spoken; None: nowhere, or not started."""
        return self._http_address

    @property
    def speaks_tls(self) -> bool:
        """Both doors do."""
        return self._identity is not None

    @property
    def reception(self) -> Reception:
        """Of all its doors."""
        if self._reception is None:
            raise RuntimeError("the router has not been started")
        return self._reception

    async def start(self) -> RouterAddress:
        """Raises UnsafeBind and PortInUse; nothing is left running then."""
        settings = self._settings
        _check_bind(settings)
        # Compiling kernels takes seconds the first time; never in the loop, never in a request.
        await asyncio.to_thread(warm)
        await asyncio.to_thread(warm_policies)
        await asyncio.to_thread(reader_of_ids)
        if self._observed_by is not None:
            await asyncio.to_thread(self._observed_by.warm)
        index = PrefixIndex(settings.index_bytes)
        rng = random.Random(settings.seed)  # noqa: S311 - choices must be reproducible, not secret
        tape = None if self._observed_by is None else Tape()
        core = RouterCore(settings, index, rng, secrets.randbits(64), tape)
        link = link_identity(settings)
        runtime = RouterRuntime(settings, core, index, time.monotonic_ns, link)
        self._tape = tape
        if self._observed_by is not None and tape is not None:
            self._observer = self._observed_by(Observed(runtime, settings, tape))
        server, port = await self._serve(runtime)
        try:
            await self._serve_http(runtime, await self._serve_metrics(runtime))
        except BaseException:
            await self._stop_pages()
            await server.stop(None)
            raise
        loop = asyncio.get_running_loop()
        self._subscriber = EventSubscriber(
            runtime.receive_events,
            loop.call_soon_threadsafe,
            SubscriberSettings(keys=None if link is None else link.event_keys),
            holds_repeats=True,
        )
        runtime.listen(self._subscriber)
        self._subscriber.start()
        self._runtime, self._server = runtime, server
        await server.start()
        self._ticker = Ticker(runtime, self._subscriber.hand_over, self._look)
        self._ticker.start()
        _log.info("router %s listens on %s:%d", settings.router_id, settings.host, port)
        self._address = RouterAddress(settings.host, port)
        return self._address

    def set_members(
        self, members: Sequence[MemberSpec], absent: Sequence[AbsentWorker] = ()
    ) -> None:
        """All workers that serve, and those that are coming up; both lists replace the ones
        before. In the router's loop."""
        self.runtime.set_members(list(members), absent)

    def report_dead(self, worker_id: WorkerId) -> None:
        """Somebody who knows says so: do not wait for its silence. In the router's loop."""
        self.runtime.report_dead(worker_id)

    async def wait_failed(self) -> str:
        """Returns why, when the router cannot go on."""
        if self._ticker is None:
            raise RuntimeError("the router has not been started")
        await self._ticker.wait_ended()
        return "the router's tick ended"

    async def stop(self, drain_s: float = 0.0) -> None:
        """Ends every stream and connection. Idempotent.

        Streams that run get `drain_s` to end whole; whoever comes meanwhile is told UNAVAILABLE.
        """
        if self._reception is not None and self._ticker is not None:
            await self._drain(self._reception, time.monotonic() + drain_s)
        if self._ticker is not None:
            await self._ticker.stop()
            self._ticker = None
        await self._stop_pages()
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
            self._server = None
        if self._runtime is not None:
            await self._runtime.close()
        if self._observer is not None:
            self._observe()
            await self._observer.stop()
            self._observer = None
        if self._prompts is not None:
            self._prompts.close()
        if self._subscriber is not None:
            await asyncio.to_thread(self._subscriber.stop)
            self._subscriber = None

    async def _serve(self, runtime: RouterRuntime) -> tuple[grpc.aio.Server, int]:
        settings = self._settings
        keys = Keys(Path(settings.keys_file)) if settings.keys_file else None
        identity = door_identity(settings)
        server = grpc.aio.server(
            options=server_options(settings.max_message_bytes),
            interceptors=() if keys is None else (InspectGuard(keys),),
        )
        self._prompts = PromptReader(runtime, settings)
        secret = settings.cluster_secret
        self._reception = Reception(runtime, self._prompts, secret, RandomBits(), keys)
        RouterServer(self._reception, settings).add_to(server)
        inspect_server = InspectServer(
            runtime,
            settings,
            secrets.token_hex(8),
            lambda: (self._metrics_address, self._http_address),
        )
        rpc.add_InspectServicer_to_server(inspect_server, server)
        rpc.add_AdminServicer_to_server(AdminServer(runtime), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._observer is not None:
            self._observer.add_to(server)
        target = str(RouterAddress(settings.host, settings.port))
        try:
            if identity is None:
                port = server.add_insecure_port(target)
            else:
                port = server.add_secure_port(target, identity.server_credentials())
        except RuntimeError as error:
            await server.stop(None)
            reason = why_not_free(settings.host, settings.port) or "the system refuses"
            raise PortInUse(f"cannot listen on {target}: {reason}") from error
        self._identity = identity
        return server, port

    async def _drain(self, reception: Reception, give_up_s: float) -> None:
        reception.drain()
        self.runtime.roused.set()
        while reception.n_open and time.monotonic() < give_up_s:  # noqa: ASYNC110 - others end them
            await asyncio.sleep(DRAIN_POLL_S)
        if reception.n_open:
            _log.warning("%d answers were not over in time: they are cut off", reception.n_open)

    async def _serve_metrics(self, runtime: RouterRuntime) -> MetricsServer:
        """In this loop: no other thread may read the core."""
        host, port = _metrics_host(self._settings), self._settings.metrics_port
        sights = RouterSights(
            runtime,
            self._settings,
            self._dropped_items,
            lambda: self._remembered_bytes,
            lambda: self.reception.rejections.by_field,
        )
        more = () if self._observer is None else self._observer.parts
        server = MetricsServer(Part(ROUTER_METRICS, sights.take), *more)
        if port is None:
            return server
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {RouterAddress(host, port)} for metrics: {error.strerror};"
                " choose another router.metrics_port, or none for no page"
            ) from error
        self._metrics, self._metrics_address = server, RouterAddress(host, bound)
        _log.info("metrics are at http://%s/metrics", self._metrics_address)
        return server

    async def _serve_http(self, runtime: RouterRuntime, metrics: MetricsServer) -> None:
        """The OpenAI API, beside gRPC and behind the same reception."""
        settings = self._settings
        if settings.http_port is None:
            return
        more = None if self._observer is None else self._observer.pages
        door = http_door(self.reception, settings, metrics.page, more)
        try:
            identity = self._identity
            context = None if identity is None else identity.server_context()
            port = await door.start(settings.host, settings.http_port, context)
        except OSError as error:
            target = RouterAddress(settings.host, settings.http_port)
            raise PortInUse(
                f"cannot listen on {target} for HTTP: {os.strerror(error.errno or 0)};"
                " choose another router.http_port, or none for no such door"
            ) from error
        self._door, self._http_address = door, RouterAddress(settings.host, port)
        scheme = "https" if self.speaks_tls else "http"
        _log.info("the OpenAI API is at %s://%s/v1", scheme, self._http_address)

    async def _stop_pages(self) -> None:
        door, self._door = self._door, None
        metrics, self._metrics = self._metrics, None
        if door is not None:
            await door.stop()
        if metrics is not None:
            await metrics.stop()

    @property
    def _remembered_bytes(self) -> int:
        return 0 if self._prompts is None else self._prompts.memo_bytes

    def _dropped_items(self) -> int:
        return 0 if self._subscriber is None else self._subscriber.dropped_items

    async def _look(self) -> None:
        """With each tick."""
        if self._prompts is not None:
            self._prompts.tick()
        self._observe()
        await self._show_health(self.runtime)
        if (keys := self.reception.keys) is not None:
            keys.refresh()

    def _observe(self) -> None:
        if self._observer is not None and self._tape is not None:
            self._observer.observe(self._tape.take(), time.monotonic_ns())

    async def _show_health(self, runtime: RouterRuntime) -> None:
        is_draining = self._reception is not None and self._reception.is_draining
        is_serving = runtime.core.is_serving and not is_draining
        if is_serving != self._is_serving:
            self._is_serving = is_serving
            codes = health_pb2.HealthCheckResponse
            status = codes.SERVING if is_serving else codes.NOT_SERVING
            for name in ("", SERVICE_NAME):
                await self._health.set(name, status)


def _check_bind(settings: RouterSettings) -> None:
    is_guarded = settings.keys_file and settings.tls_cert_file
    if settings.insecure_bind or is_guarded or is_loopback(settings.host):
        return
    raise UnsafeBind(
        f"router.host {settings.host!r} can be reached from other machines and nothing guards it:"
        " bind 127.0.0.1, give it router.keys_file and router.tls_cert_file, or allow it with"
        " router.insecure_bind (--insecure-bind)"
    )


def _metrics_host(settings: RouterSettings) -> str:
    """That page asks for no key: what is guarded elsewhere is not shown to others here."""
    is_open = settings.insecure_bind or is_loopback(settings.host)
    return settings.host if is_open else LOOPBACK
