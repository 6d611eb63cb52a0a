"""What a failed call to a router means, in our words: gRPC's own never reach a person.

Pure. Owns which error of `errors.py` a status code becomes, and the limit on a request's size. A
router names the request in all that it says; whatever comes without was written by gRPC, speaks of
its own parts and options, and is told anew. Called by the clients in `client`.
"""

import re
from typing import Any

from radixroute.errors import (
    BadInput,
    FrontDoorError,
    RequestFailed,
    RequestRefused,
    RouterUnreachable,
)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # as a router accepts with its default settings

# Codes that gRPC never gives by itself: with them, every word is the router's.
_REFUSALS = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNAUTHENTICATED",
)
_OURS = re.compile(r"\(request [^()]*\)")
# How gRPC words UNAVAILABLE when there was no connection to begin with.
_NO_CONNECTION = re.compile(
    r"failed to connect|dns resolution|name resolver|address family|unreachable|no route"
    r"|connection refused|handshake|empty address list|connect failed",
    re.IGNORECASE,
)
_UNBELIEVED = re.compile(
    r"CERTIFICATE_VERIFY_FAILED(?:: ([a-z ]+))?|hostname verification", re.IGNORECASE
)
_NO_TLS = re.compile(r"WRONG_VERSION_NUMBER|TSI_PROTOCOL_FAILURE")
_HUNG_UP = re.compile(r"failed to connect.*socket closed", re.IGNORECASE)
_BROKEN_OFF = re.compile(r"rst_stream|socket closed|stream removed|goaway", re.IGNORECASE)
_CLOSED_HERE = re.compile(r"locally cancelled|channel closed", re.IGNORECASE)
_TOO_LARGE = re.compile(r"(sent|received|decompressed).*larger than max", re.IGNORECASE)
_ANSWER = re.compile(r"client: received|server: sent", re.IGNORECASE)
_SIZES = re.compile(r"\((\d+) vs\. (\d+)\)")


def check_size(n_bytes: int) -> None:
    """Raises `BadInput` for a request that a client does not send."""
    if n_bytes > MAX_MESSAGE_BYTES:
        raise BadInput(
            f"the request has {n_bytes:,} bytes and a client sends {MAX_MESSAGE_BYTES:,} at most:"
            " shorten the prompt"
        )


def translated(error: Any, address: str, limit_s: float) -> FrontDoorError:
    """A gRPC error as ours, by what the caller can do about it. `limit_s`: the call's own."""
    code, details = error.code().name, error.details() or ""
    if code in _REFUSALS:
        return RequestRefused(details or "the router refuses this request and says no more")
    if code == "UNIMPLEMENTED":
        return RouterUnreachable(f"what answers at {address} is not a radixroute router")
    if _OURS.search(details):
        return RequestFailed(f"{details} ({code})")
    if _TOO_LARGE.search(details):
        return _size_error(details, address)
    if code == "UNAVAILABLE" and (trouble := _no_connection(details, address)):
        return RouterUnreachable(trouble)
    return RequestFailed(_by_code(code, address, limit_s))


def _no_connection(details: str, address: str) -> str:
    """Why there was none; empty: there was one."""
    if unbelieved := _UNBELIEVED.search(details):
        why = (unbelieved[1] or "it is for another host").strip()
        return (
            f"the certificate of the router at {address} is not believed ({why}): client.ca_file"
            " (RADIXROUTE_CLIENT_CA_FILE) must name who signed it, and it must be in force and for"
            " that host"
        )
    if _NO_TLS.search(details):
        return f"what answers at {address} speaks no TLS: leave out client.ca_file"
    if _HUNG_UP.search(details):
        return (
            f"what answers at {address} hangs up at once: if that router speaks TLS, set"
            " client.ca_file (RADIXROUTE_CLIENT_CA_FILE) to who signed its certificate"
        )
    if _NO_CONNECTION.search(details):
        return (
            f"no router answers at {address}: start one with `radixroute up`, "
            "or give another address (HOST:PORT)"
        )
    return ""


def is_lost(error: Any) -> bool:
    """The connection broke, or there is none: the request was not answered."""
    code, details = error.code().name, error.details() or ""
    if any(words.search(details) for words in (_OURS, _TOO_LARGE, _CLOSED_HERE)):
        return False
    if code in ("UNAVAILABLE", "CANCELLED"):
        return True
    return code in ("INTERNAL", "UNKNOWN") and _BROKEN_OFF.search(details) is not None


def has_no_connection(error: Any) -> bool:
    """There was none to begin with."""
    return _NO_CONNECTION.search(error.details() or "") is not None


def _by_code(code: str, address: str, limit_s: float) -> str:
    match code:
        case "DEADLINE_EXCEEDED":
            return (
                f"the router at {address} gave no complete answer within {limit_s:g} s; try again,"
                " or allow more time"
            )
        case "UNAVAILABLE":
            return f"lost the router at {address} before the answer was complete"
        case "CANCELLED":
            return f"the call to the router at {address} was cancelled before it was answered"
        case "RESOURCE_EXHAUSTED":
            return f"the router at {address} takes no more calls now; try again in a moment"
        case _:
            return f"the router at {address} broke off the answer ({code}); try again"


def _size_error(details: str, address: str) -> FrontDoorError:
    """Too large to be sent or to be taken: by us, or by the router."""
    sizes = _SIZES.search(details)
    n_bytes, limit = (int(sizes[1]), int(sizes[2])) if sizes else (None, MAX_MESSAGE_BYTES)
    if _ANSWER.search(details):
        size = "" if n_bytes is None else f" of {n_bytes:,} bytes"
        return RequestFailed(
            f"the answer{size} of the router at {address} is larger than the {limit:,} bytes that"
            " are taken: ask for less at once"
        )
    size = "" if n_bytes is None else f" has {n_bytes:,} bytes and"
    return RequestRefused(
        f"the request{size} is larger than the {limit:,} bytes that the router at {address} takes"
        " (its router.max_message_bytes): shorten the prompt"
    )
