"""Client answers: the streams of all answers to one prompt, as one stream of messages.

Owns the streams of one call. The first is there before anybody knows how many answers are wanted,
so that it can be claimed; a call for one answer waits for that stream itself.
"""

from collections.abc import Iterator

from radixroute.router.api.grpc.client_stream import Bell, ClientStream
from radixroute.router.api.grpc.coalescing import Coalescing


class ClientAnswers:
    """Of one call."""

    def __init__(
        self, request_id: str, number: int = 0, coalescing: Coalescing | None = None
    ) -> None:
        """`coalescing`: of its server."""
        self._bell = Bell()
        self._coalescing = coalescing
        self._streams = [ClientStream(request_id, number, bell=self._bell, coalescing=coalescing)]
        self._turn = 0

    def __iter__(self) -> Iterator[ClientStream]:
        return iter(self._streams)

    @property
    def first(self) -> ClientStream:
        return self._streams[0]

    def add(self, request_id: str) -> ClientStream:
        """One more answer."""
        index = len(self._streams)
        stream = ClientStream(request_id, index=index, bell=self._bell, coalescing=self._coalescing)
        self._streams.append(stream)
        return stream

    async def take(self) -> bytes | None:
        """The next message of any answer; None after the last. Raises how one of them failed."""
        if len(self._streams) == 1:
            return await self.first.take()
        while (message := self._poll()) is None:
            if all(stream.is_over for stream in self._streams):
                return None
            await self._bell.wait()
        return message

    def _poll(self) -> bytes | None:
        """In turns: an answer that never lets go would hide the others."""
        for _ in self._streams:
            stream = self._streams[self._turn]
            self._turn = (self._turn + 1) % len(self._streams)
            if (message := stream.poll()) is not None:
                return message
        return None
