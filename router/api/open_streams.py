"""Open streams: which stream has a request's answer now.

Owns that for each request of one router. A resume takes the answer from the stream before it,
whatever that one still does: of two streams of one request the later alone may submit and abort.
"""

from radixroute.router.api.client_stream import ClientStream
from radixroute.router.errors import Superseded


class OpenStreams:
    """Streams by request id, one each."""

    def __init__(self) -> None:
        self._by_id: dict[str, ClientStream] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def claim(self, stream: ClientStream) -> bool:
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

    def require(self, stream: ClientStream) -> None:
        """Raises Superseded when the answer is another's by now."""
        if self._by_id.get(stream.request_id) is not stream:
            raise Superseded("its client went on with this request in a later stream")

    def release(self, stream: ClientStream) -> bool:
        """This stream is over. False: the answer was another's."""
        if self._by_id.get(stream.request_id) is not stream:
            return False
        del self._by_id[stream.request_id]
        return True
