"""Verbatim records: what crosses from a door to an engine and back, as bytes.

Nobody between the two reads what they hold.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

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
    """The beginning of an answer, or what ends it; `More` is what comes between."""

    data: bytes = field(repr=False)
    n_tokens: int = 0  # output tokens in it, as far as they can be told
    status: int = 0  # of HTTP, with the first; 0: it goes on
    content_type: str = ""  # with the first

    @property
    def is_stream(self) -> bool:
        """Of the first."""
        return self.content_type.startswith(STREAM)


class More(msgspec.Struct, frozen=True):
    """More of an answer that has begun, and not its end. A struct: there is one a token."""

    request_id: str
    attempt: int
    data: bytes
    n_tokens: int  # output tokens in it, as far as they can be told
