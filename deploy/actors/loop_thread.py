"""Loop thread: one event loop in one thread, where an actor's service lives.

Ray calls an actor's methods from threads of its own; grpc.aio objects belong to the loop they were
made on. So each actor owns one of these and hands coroutines to it. The thread lives as long as the
process: children tied to their parent's life (PR_SET_PDEATHSIG) are tied to the *thread* that
started them.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class LoopThread:
    """Owns a uvloop and the daemon thread that runs it."""

    def __init__(self, name: str) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Schedules `work` and returns at once."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work` from another thread's loop."""
        return await asyncio.wrap_future(self.start(work))

    def stop(self) -> None:
        """Ends the loop; whatever still runs on it is abandoned."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
