"""Engine loop: drives an engine inside its own process, messages in, steps out.

Owns the order of things: between two steps every waiting message is taken; with nothing to do the
process sleeps in the socket. Decides nothing about requests and ends when the server process is
gone. Called by `child`. One thread; no asyncio, no torch.
"""

from collections.abc import Callable

import numpy as np

from radixroute.request.errors import InvalidRequest
from radixroute.worker.engine.engine import Engine, EngineRequest, TokenOutput, refused_as
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.messages import (
    Abort,
    EndWorkerSession,
    Inquire,
    Message,
    Refused,
    Stepped,
    Submit,
)
from radixroute.worker.process.pipe import Pipe


class EngineLoop:
    """Runs one engine until the pipe closes or the engine gives up."""

    def __init__(self, engine: Engine, pipe: Pipe, clock_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._pipe = pipe
        self._clock_ns = clock_ns

    def run(self) -> None:
        """Raises `PipeClosed` at the end, or what broke the engine."""
        while True:
            for message in self._pipe.receive(wait=not self._engine.has_work):
                self._take(message)
            step = self._engine.step(self._clock_ns())
            if step is not None:
                self._pipe.send(Stepped(step))

    def _take(self, message: Message) -> None:
        match message:
            case Submit(request, arrived_ns):
                self._submit(request, arrived_ns)
            case Abort(request_id, attempt):
                self._engine.abort(request_id, attempt)
            case Inquire(session_id, request_id, attempt):
                self._engine.inquire(session_id, request_id, attempt)
            case EndWorkerSession(session_id):
                self._engine.end_session(session_id)
            case _:
                raise MalformedMessage(f"{type(message).__name__} is not for the engine")

    def _submit(self, request: EngineRequest, arrived_ns: int) -> None:
        # It may have waited in the pipe for as long as a step takes: that is queueing too.
        try:
            self._engine.submit(request, arrived_ns)
        except InvalidRequest as error:
            self._pipe.send(Refused(refusal(request, error)))


def refusal(request: EngineRequest, error: InvalidRequest) -> TokenOutput:
    """The end of a request that never began."""
    return TokenOutput(
        request_id=request.request_id,
        attempt=request.attempt,
        session_id=request.session_id,
        position=int(np.size(request.emitted)),
        token_ids=(),
        finish=refused_as(error),
        error=str(error),
    )
