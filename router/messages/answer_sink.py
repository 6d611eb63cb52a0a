"""Answer sink: where the answer to one request goes. What a door brings along when it submits.

Called in the router's loop, in order, and never again after the end.
"""

from typing import Protocol

from radixroute.router.messages.actions import Emit, Failure


class AnswerSink(Protocol):
    """One client's end. It must not block, and bounds what it keeps by the request's max_tokens."""

    def put(self, emit: Emit) -> None:
        """More output, usage with the first and the last; the last has a `finish`."""

    def more(self, data: bytes) -> None:
        """Bytes of a verbatim answer, after the first output and before the last."""

    def fail(self, failure: Failure, detail: str = "") -> None:
        """There will be no more: why. `detail`: see `Fail`."""
