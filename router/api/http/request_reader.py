"""Request reader: a connection's bytes as requests, one after another. No I/O.

Owns one parser and what it has of the request that is coming. Heads and bodies are bounded while
they come; a request that may not go on is handed out as refused, and nothing is read behind it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus

import httptools

MAX_PIPELINED = 64  # requests in one turn's bytes: each costs an object


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, before its body is read."""

    status: HTTPStatus
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    allow: str = ""  # methods that the path takes


@dataclass(slots=True)
class Incoming:
    """One request."""

    method: str = ""
    path: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)  # names in small letters
    body: bytes = b""
    keeps_alive: bool = True
    is_old: bool = False  # before HTTP/1.1: knows no chunks
    tenant: str = ""  # whose key it came with
    refusal: Refusal | None = None

    def header(self, name: bytes) -> str:
        """Empty: it has none."""
        return self.headers.get(name, b"").decode("latin-1")


Gate = Callable[[Incoming], Refusal | None]


class Stage(Enum):
    """What comes next."""

    IDLE = "idle"  # nothing of a next request is here
    HEAD = "head"
    BODY = "body"
    OVER = "over"  # nothing more is read of this connection


class _Over(Exception):
    """Nothing more of this connection is read."""


class RequestReader:
    """Of one connection."""

    def __init__(self, gate: Gate, *, max_head_bytes: int, max_body_bytes: int) -> None:
        """`gate` says with a request's head whether its body is wanted."""
        self._gate = gate
        self._max_head, self._max_body = max_head_bytes, max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._complete: deque[Incoming] = deque()
        self._coming = Incoming()
        self._url = b""
        self._pieces: list[bytes] = []
        self._n_head = self._n_body = 0
        self.stage = Stage.IDLE
        self.wants_continue = False  # a client that waits to be told to send its body

    def feed(self, data: bytes) -> None:
        """Never raises: what is wrong is a request with a refusal."""
        if self.stage is Stage.OVER:
            return
        was_in_head = self.stage is Stage.HEAD
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ended_by_upgrade()
        except httptools.HttpParserError:
            self._refuse(Refusal(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1"))
        # The parser keeps an unfinished line of a head to itself.
        if self.stage is Stage.HEAD:
            self._n_head += len(data) if was_in_head else 0
            if self._n_head > self._max_head:
                self._refuse(self._large_head())

    def take(self) -> Incoming | None:
        """The next whole request, or one refused."""
        return self._complete.popleft() if self._complete else None

    # -- what the parser calls

    def on_message_begin(self) -> None:
        if len(self._complete) >= MAX_PIPELINED:
            self._refuse(
                Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many requests at once: wait for answers")
            )
            raise _Over
        self._coming, self._url, self._pieces = Incoming(), b"", []
        self._n_head = self._n_body = 0
        self.stage = Stage.HEAD

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        headers, name = self._coming.headers, name.lower()
        headers[name] = value if name not in headers else headers[name] + b", " + value

    def on_headers_complete(self) -> None:
        coming, headers = self._coming, self._coming.headers
        coming.method = self._parser.get_method().decode("latin-1")
        coming.is_old = self._parser.get_http_version() != "1.1"
        coming.keeps_alive = self._parser.should_keep_alive()
        refusal = self._wrong_head() or self._gate(coming)
        if refusal is not None:
            self._refuse(refusal)
            raise _Over
        self.stage = Stage.BODY
        self.wants_continue = headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, body: bytes) -> None:
        self._n_body += len(body)
        if self._n_body > self._max_body:
            self._refuse(self._large_body())
            raise _Over
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        pieces = self._pieces
        self._coming.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self.wants_continue = False
        self._complete.append(self._coming)
        self.stage = Stage.IDLE

    # -- what is wrong

    def _wrong_head(self) -> Refusal | None:
        coming, headers = self._coming, self._coming.headers
        if b"transfer-encoding" in headers and b"content-length" in headers:
            text = "both Content-Length and Transfer-Encoding: one of them is a lie"
            return Refusal(HTTPStatus.BAD_REQUEST, text)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return Refusal(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        try:
            coming.path = (httptools.parse_url(self._url).path or b"/").decode("latin-1")
        except httptools.HttpParserInvalidURLError:
            return Refusal(HTTPStatus.BAD_REQUEST, "the target of the request is no path")
        return self._large_body() if int(length) > self._max_body else None

    def _count_head(self, n: int) -> None:
        self._n_head += n
        if self._n_head > self._max_head:
            self._refuse(self._large_head())
            raise _Over

    def _large_head(self) -> Refusal:
        text = f"the head of a request has at most {self._max_head} bytes"
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)

    def _large_body(self) -> Refusal:
        text = f"the body has more than {self._max_body} bytes, the most this router takes"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)

    def _refuse(self, refusal: Refusal) -> None:
        if self.stage is Stage.OVER:
            return
        self.stage, self.wants_continue, self._pieces = Stage.OVER, False, []
        self._coming.refusal, self._coming.keeps_alive = refusal, False
        self._complete.append(self._coming)

    def _ended_by_upgrade(self) -> None:
        """It asks for another protocol: it is answered in this one, and that is all."""
        if self.stage is Stage.OVER:
            return
        if self._complete and self.stage is Stage.IDLE:
            self._complete[-1].keeps_alive = False
            self.stage = Stage.OVER
            return
        self._refuse(Refusal(HTTPStatus.BAD_REQUEST, "only HTTP/1.1 is spoken here"))
