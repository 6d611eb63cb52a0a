"""Door: the listening socket of HTTP, its connections, and who waits too long.

Owns them from `start` to `stop`. One look a quarter second finds whoever is late, and whoever has
waited in silence, so that no request needs a timer.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from radixroute.metrics.page import Rendered
from radixroute.router.api.http.asked.model_defaults import NONE, ModelDefaults
from radixroute.router.api.http.completion import Desk
from radixroute.router.api.http.connection import Exchange, HttpConnection
from radixroute.router.api.http.pages import Pages
from radixroute.router.api.http.request_reader import Incoming, Refusal, RequestReader
from radixroute.router.api.http.routes import DoorPages, Routes
from radixroute.router.api.reception import Reception
from radixroute.router.counters import Count
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
STOP_S: Final = 0.5  # for what is written to be taken
BACKLOG: Final = 1024
_COUNTS: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Count.HTTP_TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Count.HTTP_TOO_LARGE,
    HTTPStatus.REQUEST_TIMEOUT: Count.HTTP_TOO_SLOW,
    HTTPStatus.TOO_MANY_REQUESTS: Count.HTTP_TOO_MANY,
    HTTPStatus.BAD_REQUEST: Count.HTTP_MALFORMED,
}


class HttpDoor:
    """Of one router."""

    def __init__(self, runtime: RouterRuntime, settings: RouterSettings, routes: Routes) -> None:
        self.idle_s = settings.http_idle_s
        self.unread_s = settings.client_unread_timeout_s
        self._runtime = runtime
        self._settings = settings
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._open: set[HttpConnection] = set()
        self._looking: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Returns the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpConnection(self, time.monotonic), host, port, backlog=BACKLOG, ssl=tls
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Whoever still waits for an answer is cut off. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        if self._looking is not None:
            self._looking.cancel()
        for connection in list(self._open):
            connection.close()
        give_up_s = time.monotonic() + STOP_S
        while self._open and time.monotonic() < give_up_s:  # noqa: ASYNC110 - their clients end them
            await asyncio.sleep(0.01)
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    # -- what connections call

    def new_reader(self) -> RequestReader:
        return RequestReader(
            self._gate,
            max_head_bytes=self._settings.max_header_bytes,
            max_body_bytes=self._settings.max_message_bytes,
        )

    def serve(self, incoming: Incoming, connection: HttpConnection) -> Exchange | None:
        return self._routes.serve(incoming, connection)

    def refused(self, incoming: Incoming) -> None:
        refusal = incoming.refusal
        count = None if refusal is None else _COUNTS.get(refusal.status)
        if count is not None:
            self._runtime.core.count(count)

    def unread(self) -> None:
        self._runtime.core.count(Count.CLIENTS_UNREAD)

    def opened(self, connection: HttpConnection) -> bool:
        if len(self._open) >= self._settings.http_max_connections:
            self._runtime.core.count(Count.HTTP_TOO_MANY)
            return False
        self._open.add(connection)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        return True

    def closed(self, connection: HttpConnection) -> None:
        self._open.discard(connection)

    def _gate(self, incoming: Incoming) -> Refusal | None:
        return self._routes.refusal(incoming)

    def _look(self) -> None:
        """Ends whoever is late; whoever waits for long hears of it."""
        self._looking = None
        if not self._open:
            return  # the next one that comes begins it anew
        now_s = time.monotonic()
        for connection in list(self._open):
            connection.look(now_s)
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)


def http_door(
    reception: Reception,
    settings: RouterSettings,
    metrics: Callable[[str], Awaitable[Rendered]],
    more: DoorPages | None = None,
) -> HttpDoor:
    """With everything behind it. `metrics` makes the page for who accepts this."""
    runtime = reception.runtime
    uses_models = settings.generation_config == "model"
    desk = Desk(
        reception,
        client_fields=frozenset(one.strip() for one in settings.http_client_fields.split(",")),
        defaults=ModelDefaults(runtime.handshake) if uses_models else lambda: NONE,
        wall_s=time.time,
        now_s=time.monotonic,
        sign_s=settings.http_sign_s,
    )
    pages = Pages(reception, metrics, int(time.time()))
    return HttpDoor(runtime, settings, Routes(desk, pages, more))
