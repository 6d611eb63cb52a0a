"""Open streams: which stream has a request's answer now.

Owns that for each request of one router. A resume takes the answer from the stream before it,
whatever that one still does: of two streams of one request the later alone may submit and abort.
"""

from typing import Protocol

from radixroute.router.errors import RouterError, Superseded
from radixroute.router.messages.answer_sink import AnswerSink


class Stream(AnswerSink, Protocol):
    """A sink that has the answer of one request, by id."""

    @property
    def request_id(self) -> str: ...

    @property
    def number(self) -> int:
        """Of the request's resumes before it, this one counted in."""

    def end(self, error: RouterError) -> None:
        """By this error, once what came before is taken."""


class OpenStreams:
    """Streams by request id, one each."""

    def __init__(self) -> None:
        self._by_id: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def claim(self, stream: Stream) -> bool:
        """From now on the answer is this stream's. True: another had it, and has ended.

        Raises Superseded: a later resume has it.
        """
        older = self._by_id.get(stream.request_id)
        if older is not None and older.number >= stream.number:
            raise Superseded("a later resume of this request has the answer: read that one")
        self._by_id[stream.request_id] = stream
        if older is not None:
            older.end(Superseded("its client went on with this request in a later stream"))
        return older is not None

    def require(self, stream: Stream) -> None:
        """Raises Superseded when the answer is another's by now."""
        if self._by_id.get(stream.request_id) is not stream:
            raise Superseded("its client went on with this request in a later stream")

    def release(self, stream: Stream) -> bool:
        """This stream is over. False: the answer was another's."""
        if self._by_id.get(stream.request_id) is not stream:
            return False
        del self._by_id[stream.request_id]
        return True
