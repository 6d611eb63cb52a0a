"""Watching: looks at one engine that joined, as often as it should move, until it is dead.

Owns the task and its pace; what a look means is `Vitals`'. On the event loop.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final, Protocol

from radixroute.worker.companions.dialects.dialect import EngineNumbers
from radixroute.worker.companions.health import (
    ANOTHER_LIFE,
    DEAF,
    IDLE_POLL_S,
    LOOK_AGAIN_S,
    STUCK,
    Vitals,
)
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.settings import CompanionSettings

# Between two looks, however many requests an engine refuses.
_PAUSE_S: Final = 0.05


class Watched(Protocol):
    """Whose engine it is."""

    @property
    def busy_ranks(self) -> Collection[int]:
        """Those that have something to do; none: it is idle."""

    def on_well(self, *, has_moved: bool) -> None:
        """After a look."""

    def on_dead(self, reason: str) -> None: ...


class Followed(Protocol):
    """What is known of an engine's event links."""

    @property
    def breaks(self) -> int: ...

    @property
    def is_alive(self) -> bool: ...


class Watch:
    """`look` for the first numbers, then `start`, then `stop`."""

    def __init__(
        self,
        joined: Joined,
        http: EngineHttp,
        settings: CompanionSettings,
        vitals: Vitals,
        watched: Watched,
    ) -> None:
        self._dialect = joined.dialect
        self._proof = joined.dialect.proof(joined.statement.model)
        self._http = http
        self._settings = settings
        self._vitals = vitals
        self._watched = watched
        self._now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.followed: Followed | None = None  # its events; None: it sends none

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look_soon(self) -> None:
        """Something happened that may be its end."""
        self._now.set()

    async def look(self) -> str:
        """Why it is dead; empty: it lives."""
        if self.followed is not None and not self.followed.is_alive:
            return DEAF
        reason = self._vitals.looked(await self._http.ask(self._dialect.health()))
        if reason or self._vitals.failed:
            return reason
        page = await self._http.ask(self._dialect.metrics())
        if not page.is_ok and self._proof is None:
            return ""  # the page is all that it is judged by
        numbers = self._dialect.numbers(page.body) if page.is_ok else EngineNumbers()
        now_ns = time.monotonic_ns()
        reason = self._vitals.counted(numbers, now_ns, busy=self._watched.busy_ranks)
        if not reason and self._may_be_another():
            return ANOTHER_LIFE
        # One that counts no steps is taken to move for as long as it proves it when asked.
        has_moved = self._vitals.moved_ns == now_ns or self._vitals.steps is None
        if not reason and self._vitals.must_prove(now_ns):
            reason = await self._prove()
        if not reason:
            self._watched.on_well(has_moved=has_moved)
        return reason

    async def _watch(self) -> None:
        while True:
            delay_s = self._settings.poll_s if self._watched.busy_ranks else IDLE_POLL_S
            if self._vitals.failed:
                delay_s = min(delay_s, LOOK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._now.wait()
            self._now.clear()
            reason = await self.look()
            if reason:
                self._watched.on_dead(reason)
                return
            await asyncio.sleep(_PAUSE_S)

    def _may_be_another(self) -> bool:
        """Its events went away, and it does not say when it began: nobody knows whether it has what
        it told of."""
        has_broken = self.followed is not None and self.followed.breaks > 0
        return has_broken and self._vitals.started_s is None

    async def _prove(self) -> str:
        """Whether one that counts no steps computes at all."""
        if self._proof is not None:
            answer = await self._http.ask(self._proof, self._settings.progress_timeout_s)
            if not answer.is_ok:
                return STUCK
        self._vitals.moved(time.monotonic_ns())
        return ""
