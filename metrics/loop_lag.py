"""Loop lag: how much later than asked an event loop comes back to who sleeps on it.

Owns one task of that loop and what it saw. Whatever blocks the loop - a long plan, a large page, a
call that should have been made in a thread - shows here, as it delays every stream alike.
"""

import asyncio
from collections.abc import Callable

from radixroute.metrics.distribution import Distribution, Spread

PERIOD_S = 0.1
IDLE_PERIOD_S = 2.0
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Of the loop that calls `start`."""

    def __init__(self, now_ns: Callable[[], int], is_idle: Callable[[], bool]) -> None:
        """`is_idle`: nobody waits for this loop, so it is looked at less often."""
        self._now_ns = now_ns
        self._is_idle = is_idle
        self._seen = Distribution(BOUNDS_S)
        self._watching: asyncio.Task[None] | None = None

    @property
    def spread(self) -> Spread:
        return self._seen.spread

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch(), name="loop lag")

    async def stop(self) -> None:
        """Idempotent."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            period_s = IDLE_PERIOD_S if self._is_idle() else PERIOD_S
            due_ns = self._now_ns() + round(period_s * 1e9)
            await asyncio.sleep(period_s)
            self._seen.observe(max(0, self._now_ns() - due_ns) / 1e9)
