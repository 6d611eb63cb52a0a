"""Lane: the short way of verbatim answers that have begun, from their engine to their sessions.

Answers that go by say when they have something; in the loop's next turn it is taken, each answer's
in one piece, and then not for a moment: what an engine's step puts out for many requests comes one
by one, and a message for each would cost more than all else. What begins or ends an answer goes the
way of all outputs, and an end takes along what waits here, so nothing is out of order. On the event
loop.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from radixroute.worker.companions.calls import Calls, Relayed
from radixroute.worker.companions.tick import StepMeter
from radixroute.worker.engine.engine import EngineRequest, MoreOutput

# Between two that are taken; whoever is alone waits for none.
GAP_NS: Final = 1_000_000


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
        self._taken_ns = 0  # when something was, last

    def add(self, answer: Ready) -> None:
        """It has something, and had nothing before."""
        self._ready.append(answer)
        if len(self._ready) == 1:
            early_ns = self._taken_ns + GAP_NS - time.monotonic_ns()
            if early_ns > 0:
                asyncio.get_running_loop().call_later(early_ns / 1e9, self._wake_late)
            else:
                self._wake()

    def take(self, calls: Calls, meter: StepMeter, now_ns: int) -> tuple[MoreOutput, ...]:
        """What came since the last call, of answers that still run. `now_ns`: monotonic."""
        ready, self._ready = self._ready, []
        if ready:
            self._taken_ns = now_ns
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

    def _wake_late(self) -> None:
        """Somebody else may have taken it meanwhile."""
        if self._ready:
            self._wake()
