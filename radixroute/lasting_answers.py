"""All answers to one prompt, whatever connections carry them: what to ask next, until all is there.

They come together at first. Once the connection is lost, each that had not ended goes on by itself,
one after another, since a resume is for one answer. Owns which answer a message belongs to; no I/O.
Called by the clients in `client`.
"""

from collections.abc import Callable
from typing import Any

from radixroute.errors import RequestFailed
from radixroute.lasting_stream import LastingStream
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.limits import MOST_ANSWERS, SEED_END


class LastingAnswers:
    """One request and its answers so far."""

    def __init__(
        self, request: pb.GenerateRequest, stream: Callable[[pb.GenerateRequest], LastingStream]
    ) -> None:
        """`stream`: makes what keeps one answer, of the request that would ask for it alone."""
        n = request.sampling.n if request.sampling.HasField("n") else 1
        self._n = min(max(n, 1), MOST_ANSWERS)  # any other number is refused
        self._together: pb.GenerateRequest | None = request if self._n > 1 else None
        self._alone = [_alone(request) for _ in range(self._n)] if self._n > 1 else [request]
        self._streams = [stream(one) for one in self._alone]
        self._open = list(range(self._n))  # what has not come whole; alone, the first is asked for
        self._has_seeds = False
        if request.sampling.HasField("seed"):
            self._seed(request.sampling.seed)

    @property
    def left_s(self) -> float:
        """Until their deadline."""
        return self._streams[0].left_s

    @property
    def request(self) -> pb.GenerateRequest | None:
        """What to send now; None: nothing, all is there."""
        if not self._open:
            return None
        return self._together or self._streams[self._open[0]].request

    def take(self, response: pb.GenerateResponse) -> pb.GenerateResponse:
        """The next message, for whoever reads. Raises `RequestFailed` as `LastingStream` does."""
        if self._together is None:
            response.index = self._open[0]
        index = response.index
        if index >= self._n:
            raise RequestFailed(f"request {response.request_id}: nobody asked for answer {index}")
        response = self._streams[index].take(response)
        if not self._has_seeds and response.HasField("sampling"):
            self._seed(response.sampling.seed - index)
        if index and response.HasField("usage"):  # asked for alone, it has the prompt in it again
            response.usage.prompt_tokens = response.usage.cached_tokens = 0
        if self._together is not None and response.finish_reason:
            self._open.remove(index)
        return response

    def ended(self) -> None:
        """The call is over without an error. What had begun then is as whole as it will be."""
        if self._together is None:
            del self._open[:1]
        else:
            self._open = [index for index in self._open if not self._streams[index].has_begun]
        self._part()
        if self._open:
            self._streams[self._open[0]].go_on()

    def pause_s(self, error: Any) -> float | None:
        """How long to wait before `request` is sent again; None: this error is the end."""
        if self._together is not None and any(stream.has_begun for stream in self._streams):
            self._part()
        if not self._open:
            return 0.0  # it broke behind the last message
        return self._streams[self._open[0]].pause_s(error)

    def _part(self) -> None:
        """From now on each goes on alone, what has begun first."""
        self._together = None
        self._open.sort(key=lambda index: not self._streams[index].has_begun)
        for index in self._open:
            self._streams[index].is_known = True

    def _seed(self, first: int) -> None:
        """What must be asked for alone is drawn as it would have been with the others."""
        self._has_seeds = True
        if self._n > 1:
            for index, request in enumerate(self._alone):
                request.sampling.seed = (first + index) % SEED_END


def _alone(request: pb.GenerateRequest) -> pb.GenerateRequest:
    one = pb.GenerateRequest()
    one.CopyFrom(request)
    one.sampling.ClearField("n")
    return one
