"""Unread: clients that take nothing for too long give their answers up.

Owns who is being written to and since when. One look some times a second finds whoever is late, so
that no message needs a timer. In one loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from radixroute.router.errors import ClientUnread

LOOK_S: Final = 1.0


class Writing:
    """One call. Whoever writes says when it begins, and None when that is taken."""

    __slots__ = ("limit", "since_s")

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.limit = limit
        self.since_s: float | None = None


class UnreadWatch:
    """Of one server."""

    def __init__(self, limit_s: float, given_up: Callable[[], None]) -> None:
        """`given_up` counts."""
        self._limit_s = limit_s
        self._look_s = min(LOOK_S, limit_s / 4)
        self._given_up = given_up
        self._open: set[Writing] = set()
        self._is_looking = False

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Writing]:
        """Raises ClientUnread out of whatever is awaited inside."""
        try:
            async with asyncio.timeout(None) as limit:
                writing = Writing(limit)
                self._open.add(writing)
                self._look_later()
                try:
                    yield writing
                finally:
                    self._open.discard(writing)
        except TimeoutError:
            self._given_up()
            raise ClientUnread("nothing was read of the answer for too long") from None

    def _look_later(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(self._look_s, self._look)

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for writing in self._open:
            if writing.since_s is not None and now_s - writing.since_s >= self._limit_s:
                writing.since_s = None  # told once
                writing.limit.reschedule(now_s)
        self._is_looking = False
        if self._open:
            self._look_later()
