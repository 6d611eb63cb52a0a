"""Offset: a worker's clock beside the router's, from messages that say when they were sent.

The fastest of the last ones is taken to have needed no time, so what is told is late by as long as
that one took; times of one stream never go back. Pure.
"""

from collections import deque
from typing import Final

WINDOW_NS: Final = 60_000_000_000


class Offset:
    """Of one stream. Times are nanoseconds."""

    def __init__(self) -> None:
        # Rising in both: who is slower than a later one is never the fastest again.
        self._fastest: deque[tuple[int, int]] = deque()  # (heard, heard - sent)
        self._last_ns = 0

    def of(self, sent_ns: int, heard_ns: int) -> int:
        """When it was sent, on the clock of who heard it."""
        late_ns = heard_ns - sent_ns
        fastest = self._fastest
        while fastest and fastest[-1][1] >= late_ns:
            fastest.pop()
        fastest.append((heard_ns, late_ns))
        while fastest[0][0] < heard_ns - WINDOW_NS:
            fastest.popleft()
        return self.at_least(min(heard_ns, sent_ns + fastest[0][1]))

    def at_least(self, ns: int) -> int:
        """The same, or when the one before was sent, if that is later."""
        self._last_ns = max(self._last_ns, ns)
        return self._last_ns
