"""Deadlines: by when requests must have ended, soonest first.

Owns a heap; who ends sooner is skipped when its time comes. Pure.
"""

import heapq
from collections.abc import Callable


class Deadlines:
    """Times by request id."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request_id: str, deadline_ns: int) -> None:
        heapq.heappush(self._heap, (deadline_ns, request_id))

    def passed(self, now_ns: int) -> list[str]:
        """Those whose time has come, each once. O(log n) for each."""
        over = list[str]()
        while self._heap and self._heap[0][0] <= now_ns:
            over.append(heapq.heappop(self._heap)[1])
        return over

    def shrink(self, n_running: int, is_running: Callable[[str], bool]) -> None:
        """Drops those that ended once they are most of the heap: amortised O(1) a request."""
        if len(self._heap) > 64 + 2 * n_running:
            self._heap = [entry for entry in self._heap if is_running(entry[1])]
            heapq.heapify(self._heap)
