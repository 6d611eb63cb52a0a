"""Offset: a worker's clock beside the router's, from messages that say when they were sent.

The fastest of late is taken to have needed no time, so what is told is late by as long as that one
took; times of one stream never go back. Pure.
"""

from typing import Final

import numpy as np

from radixroute.radix.ids import Numbers

WINDOW_NS: Final = 60_000_000_000
_NEVER: Final = 1 << 62


class Offset:
    """Of one stream. Times are nanoseconds."""

    def __init__(self) -> None:
        # The fastest message of this window and of the one before; heard - sent.
        self._fastest, self._before = _NEVER, _NEVER
        self._since_ns = 0
        self._last_ns = 0

    def of(self, sent_ns: Numbers, heard_ns: Numbers) -> Numbers:
        """When each was sent, on the clock of who heard them; in the order in which they were
        heard. 0 is no time: of these it is when they were heard. Shapes (messages,)."""
        is_timed = sent_ns > 0
        late = np.where(is_timed, heard_ns - sent_ns, _NEVER)
        if len(late) and heard_ns[-1] - self._since_ns > WINDOW_NS:
            self._before, self._fastest = self._fastest, _NEVER
            self._since_ns = int(heard_ns[-1])
        known = min(self._fastest, self._before)
        fastest = np.minimum(np.minimum.accumulate(late), known)
        ns = np.where(is_timed, np.minimum(heard_ns, sent_ns + fastest), heard_ns)
        if len(ns):
            self._fastest = min(self._fastest, int(late.min()))
            ns = np.maximum(np.maximum.accumulate(ns), self._last_ns)
            self._last_ns = int(ns[-1])
        return ns
