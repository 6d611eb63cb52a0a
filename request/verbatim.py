"""Verbatim requests: those that only another's engine understands, and what it answers, as bytes.

The records that cross from a door to an engine and back; nobody between them reads what they hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from radixroute.request.errors import InvalidRequest

# Where an engine answers: the paths of the door that they came to.
PATHS: Final = ("/v1/chat/completions", "/v1/completions")
STREAM: Final = "text/event-stream"
# Of an answer that its client has not taken: what one such request may hold of each process.
WINDOW_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A request as it came, without what clients may not set."""

    path: str
    body: bytes = field(repr=False)  # a JSON object
    n_tokens: int  # of its prompt, as its router knows or guesses


@dataclass(frozen=True, slots=True)
class Passage:
    """More of an answer."""

    data: bytes = field(repr=False)
    n_tokens: int = 0  # output tokens in it, as far as they can be told
    status: int = 0  # of HTTP, with the first; 0: it goes on
    content_type: str = ""  # with the first

    @property
    def is_stream(self) -> bool:
        """Of the first."""
        return self.content_type.startswith(STREAM)


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def fields_of(body: bytes) -> dict[str, bytes]:
    """Of a body: values by name, as they stand in it; of a name that comes twice the last, as other
    readers have it. Raises InvalidRequest."""
    if not body:
        raise InvalidRequest("body", "is empty: send JSON, with its Content-Length")
    try:
        fields = _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest("body", "is no JSON object") from None
    return {name: bytes(value) for name, value in fields.items()}


def body_of(fields: Mapping[str, bytes]) -> bytes:
    """The other way: values stay as they are, byte for byte."""
    members = (msgspec.json.encode(name) + b":" + value for name, value in fields.items())
    return b"{" + b",".join(members) + b"}"
