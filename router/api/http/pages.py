"""Pages: what the door answers beside completions: models, health, metrics, its own description."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from radixroute.metrics.page import Rendered
from radixroute.router.api.http import replies
from radixroute.router.api.http.connection import Exchange, HttpConnection
from radixroute.router.api.http.openapi import OPENAPI
from radixroute.router.api.http.replies import Problem
from radixroute.router.api.http.request_reader import Incoming
from radixroute.router.api.reception import Reception

_log = logging.getLogger(__name__)

OWNER: Final = "radixroute"
NO_MODEL: Final = "no such model: GET /v1/models shows those there are"


class Pages:
    """Of one router."""

    def __init__(
        self,
        reception: Reception,
        metrics: Callable[[str], Awaitable[Rendered]],
        started_s: int,
    ) -> None:
        """`metrics` makes the page for who accepts this. `started_s`: of the wall's clock."""
        self._reception = reception
        self._metrics = metrics
        self._started_s = started_s

    def models(self, incoming: Incoming, connection: HttpConnection) -> None:
        """None before a first worker has joined."""
        body = msgspec.json.encode({"object": "list", "data": list(self._models())})
        connection.answer(HTTPStatus.OK, replies.JSON, body)

    def model(self, incoming: Incoming, connection: HttpConnection) -> None:
        wanted = unquote(incoming.path.removeprefix("/v1/models/"))
        for one in self._models():
            if one["id"] == wanted:
                connection.answer(HTTPStatus.OK, replies.JSON, msgspec.json.encode(one))
                return
        connection.explain(
            Problem(HTTPStatus.NOT_FOUND, NO_MODEL, "invalid_request_error", "model_not_found")
        )

    def health(self, incoming: Incoming, connection: HttpConnection) -> None:
        """The loop runs, so the process is sound."""
        connection.answer(HTTPStatus.OK, replies.JSON, b'{"status":"ok"}')

    def readiness(self, incoming: Incoming, connection: HttpConnection) -> None:
        """Whether requests should be sent here."""
        if self._reception.is_draining:
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, "draining"
        elif not self._reception.runtime.core.is_serving:
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, "no worker serves"
        else:
            status, text = HTTPStatus.OK, "ready"
        connection.answer(status, replies.JSON, msgspec.json.encode({"status": text}))

    def openapi(self, incoming: Incoming, connection: HttpConnection) -> None:
        connection.answer(HTTPStatus.OK, replies.JSON, OPENAPI)

    def metrics(self, incoming: Incoming, connection: HttpConnection) -> Exchange:
        return _Later(connection, self._metrics(incoming.header(b"accept")))

    def _models(self) -> Iterator[dict[str, Any]]:
        """The model, and each adapter as a child of it."""
        runtime = self._reception.runtime
        served = runtime.handshake.served
        if served is None:
            return
        facts = served.facts
        common = {"object": "model", "created": self._started_s, "owned_by": OWNER}
        common["max_model_len"] = facts.max_model_len
        yield {"id": facts.model, **common, "root": facts.model, "parent": None}
        for name in sorted(runtime.core.adapters.served):
            yield {"id": name, **common, "root": name, "parent": facts.model}


class _Later:
    """An answer that is made beside the loop."""

    def __init__(self, connection: HttpConnection, page: Awaitable[Rendered]) -> None:
        self._connection = connection
        self._task = asyncio.ensure_future(self._answer(page))

    def lost(self) -> None:
        self._task.cancel()

    def resumed(self) -> None:
        """Nothing was held back."""

    def look(self, now_s: float) -> None:
        """It is made in a moment."""

    async def _answer(self, page: Awaitable[Rendered]) -> None:
        try:
            rendered = await page
        except Exception:  # noqa: BLE001 - a fault of one table must not end the process
            _log.exception("the metrics page cannot be made")
            self._connection.explain(
                Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "see the router's log", "api_error")
            )
            return
        self._connection.answer(
            HTTPStatus.OK, rendered.content_type.encode("latin-1"), rendered.body
        )
