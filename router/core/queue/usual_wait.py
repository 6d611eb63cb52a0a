"""Usual wait: how long requests waited lately, for whoever is told to come back later. Pure."""

from typing import Final

# The last hundred or so count.
MEMORY: Final = 100
LEAST_MS: Final = 100.0
MOST_MS: Final = 30_000.0


class UsualWait:
    """A fading mean."""

    def __init__(self) -> None:
        self._ms = LEAST_MS

    @property
    def ms(self) -> float:
        """When to come back, in milliseconds: neither at once nor never."""
        return min(max(self._ms, LEAST_MS), MOST_MS)

    def ended(self, waited_ns: int) -> None:
        self._ms += (waited_ns / 1e6 - self._ms) / MEMORY
