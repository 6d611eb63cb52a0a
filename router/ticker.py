"""Ticker: calls a router's tick as often as time alone may lead to something.

Owns the task. While a request or a lease is open, or a stream has something to mend, that is each
`TICK_S`. A router that has nothing to do rests longer, but no longer than until the silence of a
worker would mean something, and not once anything comes. Measures how late the loop runs it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from radixroute.router.runtime import RouterRuntime

_log = logging.getLogger(__name__)

TICK_S: Final = 0.1
_LEAST_REST_S: Final = 0.01


class Ticker:
    """Of one router. `start`, then `stop`."""

    def __init__(
        self,
        runtime: RouterRuntime,
        hand_over: Callable[[], None],
        look: Callable[[], Awaitable[None]],
    ) -> None:
        """`hand_over`: before each tick, what workers said that could wait. `look`: after it."""
        self._runtime = runtime
        self._hand_over = hand_over
        self._look = look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="router tick")
        self._task.add_done_callback(_log_end)

    async def wait_ended(self) -> None:
        """Until it fails, or is stopped."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        runtime = self._runtime
        while True:
            self._hand_over()
            quiet_s = runtime.tick() / 1e9
            if quiet_s > 0:
                runtime.roused.clear()
            await self._look()
            pause_s = max(_LEAST_REST_S, quiet_s) if quiet_s > 0 else TICK_S
            due_s = time.monotonic() + pause_s
            if quiet_s > 0:
                await _rest(runtime.roused, pause_s)
            else:
                await asyncio.sleep(pause_s)
            late_s = time.monotonic() - due_s
            if late_s >= 0:  # else it was roused
                # Whatever held the loop in this time ends before anything that is due may run.
                runtime.lagged(late_s)


async def _rest(roused: asyncio.Event, timeout_s: float) -> None:
    """Until something comes, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await roused.wait()


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("the router's tick failed", exc_info=task.exception())
