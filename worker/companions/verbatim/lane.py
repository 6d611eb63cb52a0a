"""Lane: the short way of verbatim answers that have begun, from their engine to their sessions.

Answers that go by say when they have something; once a turn of the loop it is taken, each answer's
in one piece. What begins or ends an answer goes the way of all outputs, and an end takes along what
waits here, so nothing is out of order. On the event loop.
"""

from collections.abc import Callable
from typing import Protocol

from radixroute.worker.companions.calls import Calls, Relayed
from radixroute.worker.companions.tick import StepMeter
from radixroute.worker.engine.engine import EngineRequest, MoreOutput


class Ready(Relayed, Protocol):
    """An answer of which something came."""

    @property
    def request(self) -> EngineRequest: ...

    def take(self) -> tuple[bytes, int]:
        """Since the last call: bytes, and the output tokens in them. No bytes: it is over."""


class Lane:
    """Of one engine."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake`: then somebody calls `take` in the loop's next turn."""
        self._wake = wake
        self._ready: list[Ready] = []

    def add(self, answer: Ready) -> None:
        """It has something, and had nothing before."""
        if not self._ready:
            self._wake()
        self._ready.append(answer)

    def take(self, calls: Calls, meter: StepMeter, now_ns: int) -> tuple[MoreOutput, ...]:
        """What came since the last call, of answers that still run."""
        ready, self._ready = self._ready, []
        more: list[MoreOutput] = []
        for answer in ready:
            request = answer.request
            data, n_tokens = answer.take()
            call = calls.find(request.request_id, request.attempt)
            if not data or call is None or call.relaying is not answer:
                continue
            if n_tokens:
                calls.passed(call, n_tokens)
                meter.output(call, n_tokens, now_ns, is_first=False)
            more.append(
                MoreOutput(request.request_id, request.attempt, request.session_id, data, n_tokens)
            )
        return tuple(more)
