"""Coalescing: whether tokens go out as they come, or are held a little to go together.

A gRPC message costs its server many times what its tokens do. While few are due each goes at once;
while so many are that they fill the loop, answers that run are held, all until the same moment, and
what came meanwhile is one message. Owns the count and the timer, for all calls of one server. In
one loop.
"""

import asyncio
from collections.abc import Callable
from typing import Final

# What one core sends with room to spare for all else: at some 45 us each about half of it.
MESSAGES_A_S: Final = 10_000
WINDOW_S: Final = 0.1
# As long as a token is held at most; longer saves little more and is seen by who reads along.
HOLD_S: Final = 0.02


class Coalescing:
    """Of one server."""

    def __init__(self, now_s: Callable[[], float], messages_a_s: float = MESSAGES_A_S) -> None:
        """`now_s` only ever grows."""
        self._now_s = now_s
        self._most = messages_a_s * WINDOW_S
        self._until_s = 0.0  # of the window
        self._n = 0  # in it
        self._held: list[Callable[[], None]] = []
        self._is_loaded = False

    def count(self) -> bool:
        """One more output of an answer that runs; whether it is to be held."""
        now_s = self._now_s()
        self._n += 1
        if now_s >= self._until_s:
            # A window without outputs is no load, however many there were before.
            is_last = now_s < self._until_s + WINDOW_S
            self._is_loaded = is_last and self._n > self._most
            self._n, self._until_s = 0, now_s + WINDOW_S
        return self._is_loaded

    def hold(self, let_go: Callable[[], None]) -> None:
        """Calls it with all others that are held."""
        if not self._held:
            asyncio.get_running_loop().call_later(HOLD_S, self._let_go)
        self._held.append(let_go)

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for let_go in held:
            let_go()
