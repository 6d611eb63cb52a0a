"""Pace: whether tokens go out as they come, or wait a little to go together.

A gRPC message costs its server many times what its tokens do. While few are due each goes at once;
while so many are that they fill the loop, answers that run wait for the next of some turns a
second, and what came meanwhile is one message. Owns the count and the turns' timer, for all calls
of one server. In one loop.
"""

import asyncio
from collections.abc import Callable
from typing import Final

# What one core sends with room to spare for all else: at some 45 us each about half of it.
MESSAGES_A_S: Final = 10_000
WINDOW_S: Final = 0.1
# As long as a token waits then; longer saves little more and is seen by who reads along.
TURN_S: Final = 0.02


class Pace:
    """Of one server."""

    def __init__(self, messages_a_s: float = MESSAGES_A_S) -> None:
        self._most = messages_a_s * WINDOW_S
        self._loop = asyncio.get_running_loop()
        self._until_s = 0.0  # of the window
        self._n = 0  # in it
        self._waiting: list[Callable[[], None]] = []
        self.is_loaded = False

    def count(self) -> bool:
        """One more output of an answer that runs; whether it is to wait for a turn."""
        now_s = self._loop.time()
        self._n += 1
        if now_s >= self._until_s:
            # A window without outputs is no load, however many there were before.
            is_last = now_s < self._until_s + WINDOW_S
            self.is_loaded = is_last and self._n > self._most
            self._n, self._until_s = 0, now_s + WINDOW_S
        return self.is_loaded

    def at_turn(self, then: Callable[[], None]) -> None:
        """Calls it at the next turn."""
        if not self._waiting:
            self._loop.call_later(TURN_S, self._turn)
        self._waiting.append(then)

    def _turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
