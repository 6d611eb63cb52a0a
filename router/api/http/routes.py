"""Routes: which path is answered by whom, and what is turned away before its body is read."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from radixroute.router.api.http.completion import Completion, Desk
from radixroute.router.api.http.connection import Exchange, HttpConnection
from radixroute.router.api.http.pages import Pages
from radixroute.router.api.http.request_reader import Incoming, Refusal
from radixroute.router.errors import Unauthenticated

Handler = Callable[[Incoming, HttpConnection], Exchange | None]
_READ: Final = ("GET", "HEAD")
MODELS: Final = "/v1/models"
_OPEN: Final = ("/healthz", "/readyz", "/openapi.json")  # to whoever can reach the router


class DoorPages(Protocol):
    """More pages that are read at the door, of somebody who looks at the router."""

    def page(self, path: str) -> Handler | None:
        """None: it has none there."""
        ...

    def is_open(self, path: str) -> bool:
        """To whoever can reach the router, without a key: it shows nothing of anybody's."""
        ...


class Routes:
    """All paths of the door."""

    def __init__(self, desk: Desk, pages: Pages, more: DoorPages | None = None) -> None:
        self._desk = desk
        self._pages = pages
        self._more = more
        self._posts: Mapping[str, bool] = {"/v1/completions": False, "/v1/chat/completions": True}
        self._gets: Mapping[str, Handler] = {
            MODELS: pages.models,
            "/healthz": pages.health,
            "/readyz": pages.readiness,
            "/metrics": pages.metrics,
            "/openapi.json": pages.openapi,
        }

    def refusal(self, incoming: Incoming) -> Refusal | None:
        """None: it goes on, as its key's tenant where keys are asked for."""
        refusal = self._wrong_path(incoming)
        if refusal is not None or self._is_open(incoming.path):
            return refusal
        try:
            incoming.tenant = self._desk.reception.tenant_of(incoming.header(b"authorization"))
        except Unauthenticated as error:
            status = HTTPStatus.UNAUTHORIZED
            return Refusal(status, str(error), "authentication_error", "invalid_api_key")
        return None

    def _wrong_path(self, incoming: Incoming) -> Refusal | None:
        path = incoming.path
        if path in self._posts:
            return None if incoming.method == "POST" else _not_allowed("POST")
        if self._page(path) is None:
            text = "no such path: see /openapi.json for those there are"
            return Refusal(HTTPStatus.NOT_FOUND, text, code="unknown_url")
        return None if incoming.method in _READ else _not_allowed("GET, HEAD")

    def serve(self, incoming: Incoming, connection: HttpConnection) -> Exchange | None:
        is_chat = self._posts.get(incoming.path)
        if is_chat is not None:
            completion = Completion(incoming, connection, self._desk, is_chat=is_chat)
            completion.start()
            return completion
        page = self._page(incoming.path)
        return None if page is None else page(incoming, connection)

    def _page(self, path: str) -> Handler | None:
        page = self._gets.get(path)
        if page is None and path.startswith(MODELS + "/"):
            return self._pages.model
        if page is None and self._more is not None:
            return self._more.page(path)
        return page

    def _is_open(self, path: str) -> bool:
        if path in _OPEN:
            return True
        return path not in self._posts and self._more is not None and self._more.is_open(path)


def _not_allowed(methods: str) -> Refusal:
    text = f"this path takes {methods}"
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, text, allow=methods)
