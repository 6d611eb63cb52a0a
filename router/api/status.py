"""Status: the one place where errors become gRPC status codes, and failures become errors.

Pure tables. Messages are fixed sentences and the request's id: nothing of a prompt can be in them.
"""

from math import ceil

import grpc
from google.rpc import error_details_pb2, status_pb2

from radixroute.request.errors import InvalidRequest
from radixroute.router.errors import (
    ClientUnread,
    DeadlinePassed,
    Draining,
    NoWorkers,
    PromptUnread,
    QueueFull,
    RequestFailed,
    RequestRejected,
    RouterError,
    Superseded,
    Unauthenticated,
    UnknownModel,
    UnknownRequest,
)
from radixroute.router.messages.actions import Failure

# The most special class first: the first match decides.
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (UnknownRequest, grpc.StatusCode.NOT_FOUND),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (RequestRejected, grpc.StatusCode.INVALID_ARGUMENT),
    (NoWorkers, grpc.StatusCode.UNAVAILABLE),
    (PromptUnread, grpc.StatusCode.UNAVAILABLE),
    (Draining, grpc.StatusCode.UNAVAILABLE),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (ClientUnread, grpc.StatusCode.CANCELLED),
    (Superseded, grpc.StatusCode.ABORTED),
    (RequestFailed, grpc.StatusCode.INTERNAL),
)

_REFUSED = "no worker can serve this request as it stands"
_ERRORS: dict[Failure, RouterError] = {
    Failure.NO_WORKERS: NoWorkers("no worker took the request in time: try again in a moment"),
    Failure.QUEUE_FULL: QueueFull("the router has all the requests it takes: try again later"),
    Failure.DEADLINE: DeadlinePassed("the request's deadline passed"),
    Failure.TOO_MANY_DEATHS: RequestFailed(
        "two workers were lost with this request on them: it will not be tried again"
    ),
    Failure.WORKER_ERROR: RequestFailed("the worker failed this request: see the worker's log"),
    Failure.REFUSED: RequestRejected(f"{_REFUSED}: see the worker's log for the limit"),
    Failure.NOT_RESUMABLE: RequestFailed(
        "the answer was cut off, and no worker that is left can go on with it: its penalties on"
        " output, or the engines, do not allow it; send it again from the start"
    ),
    Failure.HOPELESS: DeadlinePassed(
        "not even an idle fleet could answer by the request's deadline: allow more time"
    ),
}


def failure_error(failure: Failure, detail: str = "") -> RouterError:
    """A fresh error: a shared one would collect tracebacks. `detail`: see `Fail`."""
    if detail:
        return RequestRejected(f"{_REFUSED}: {detail}")
    known = _ERRORS[failure]
    return type(known)(*known.args)


def status_of(error: Exception, request_id: str) -> tuple[grpc.StatusCode, str]:
    """What the client is told."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, f"{error} (request {request_id})"
    return grpc.StatusCode.INTERNAL, f"internal error (request {request_id})"


def retry_hint(
    code: grpc.StatusCode, details: str, after_ms: float
) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that says when to come back: gRPC's pushback, and `google.rpc.RetryInfo`.

    RESOURCE_EXHAUSTED also means a message that is too large: only this one may be tried again.
    """
    after_ms = ceil(after_ms)
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(after_ms)
    status = status_pb2.Status(code=code.value[0], message=details)
    status.details.add().Pack(info)
    return (
        ("grpc-retry-pushback-ms", str(after_ms)),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
