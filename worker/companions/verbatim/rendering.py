"""Rendering: asks an engine for tokens of prompts that only it can read, beside what runs there.

Owns its tasks, and which ways to ask this server has not. On the event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined

# Longer than that nobody waits for a better guess.
_RENDER_S: Final = 1.0
_NOT_HERE: Final = (403, 404, 405)


class Rendering:
    """Of one engine that joined."""

    def __init__(self, joined: Joined, http: EngineHttp) -> None:
        self._dialect = joined.dialect
        self._model = joined.statement.model
        self._http = http
        self._n_refused = 0  # ways to ask that this server has not
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, asked: Verbatim, lora: str, tell: Callable[[Tokens | None], None]) -> None:
        """`tell` is called with the tokens; None: it does not say."""
        task = asyncio.create_task(self._render(asked, lora, tell))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Nobody is told any more. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _render(
        self, asked: Verbatim, lora: str, tell: Callable[[Tokens | None], None]
    ) -> None:
        tokens = None
        for number, ask in enumerate(self._dialect.renders(asked, lora or self._model)):
            if number < self._n_refused:
                continue
            answer = await self._http.ask(ask, _RENDER_S)
            tokens = self._dialect.rendered(answer)
            if tokens is not None:
                break
            if answer.status in _NOT_HERE:  # of this server: never again
                self._n_refused = max(self._n_refused, number + 1)
        tell(None if tokens is None else np.array(tokens, np.uint32))
