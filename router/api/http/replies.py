"""Replies: heads, chunks and errors as bytes. Pure.

Owns what of our errors a client of HTTP is told: status, and a body as OpenAI words it. Messages
are the same fixed sentences as at every door.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

import msgspec

from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import is_too_long
from radixroute.router.api.http.request_reader import Refusal
from radixroute.router.errors import (
    DeadlinePassed,
    Draining,
    NoWorkers,
    PromptUnread,
    QueueFull,
    RequestFailed,
    RequestRejected,
    UnknownModel,
)

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CHUNK_END = b"\r\n"

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told instead of an answer."""

    status: HTTPStatus
    message: str
    kind: str
    code: str | None = None
    param: str | None = None

    @property
    def body(self) -> bytes:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


# The most special class first: the first match decides.
_STATUS: tuple[tuple[type[Exception], HTTPStatus, str, str | None], ...] = (
    (UnknownModel, HTTPStatus.NOT_FOUND, "invalid_request_error", "model_not_found"),
    (RequestRejected, HTTPStatus.BAD_REQUEST, "invalid_request_error", None),
    (QueueFull, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "queue_full"),
    (NoWorkers, HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "no_workers"),
    (PromptUnread, HTTPStatus.SERVICE_UNAVAILABLE, "server_error", None),
    (Draining, HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "draining"),
    (DeadlinePassed, HTTPStatus.GATEWAY_TIMEOUT, "timeout_error", "deadline_exceeded"),
    (RequestFailed, HTTPStatus.INTERNAL_SERVER_ERROR, "api_error", None),
)


def problem_of(error: Exception, request_id: str) -> Problem:
    """What the client is told of it."""
    if isinstance(error, InvalidRequest):
        return Problem(
            HTTPStatus.BAD_REQUEST,
            f"{error} (request {request_id})",
            "invalid_request_error",
            "context_length_exceeded" if is_too_long(error) else None,
            error.field,
        )
    for kind, status, name, code in _STATUS:
        if isinstance(error, kind):
            return Problem(status, f"{error} (request {request_id})", name, code)
    text = f"internal error (request {request_id})"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, text, "api_error")


def problem_of_refusal(refusal: Refusal) -> Problem:
    return Problem(refusal.status, refusal.message, refusal.kind, refusal.code)


def refusal_headers(refusal: Refusal) -> tuple[Header, ...]:
    """What some statuses have to say."""
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        return ((b"WWW-Authenticate", b"Bearer"),)
    return ((b"Allow", refusal.allow.encode()),) if refusal.allow else ()


def retry_after(after_ms: float | None) -> tuple[Header, ...]:
    """For whoever may come back."""
    if after_ms is None:
        return ()
    return ((b"Retry-After", b"%d" % max(1, ceil(after_ms / 1000))),)


def head(
    status: HTTPStatus,
    content_type: bytes,
    headers: Iterable[Header] = (),
    *,
    length: int | None,
    closes: bool,
) -> bytes:
    """`length` None: what follows comes in chunks, or, to old clients, until the end."""
    lines = [
        b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode()),
        b"Content-Type: " + content_type,
    ]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    elif not closes:
        lines.append(b"Transfer-Encoding: chunked")
    if closes:
        lines.append(b"Connection: close")
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Of a body whose length is not known before its end."""
    return chunk_begin(len(data)) + data + CHUNK_END


def chunk_begin(size: int) -> bytes:
    return b"%x\r\n" % size
