"""Virtual time: what happens when, in order. Owns the heap and the time; nothing else waits."""

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

Args: TypeAlias = tuple[Any, ...]
MS = 1_000_000
S = 1000 * MS


class Process:
    """Whatever can stand still or die: what it was to do waits with it, or never happens."""

    def __init__(self) -> None:
        self.is_over = False
        self.stands_still_until_ns = 0


class Agenda:
    """Calls to come, by time and then by the order in which they were put down."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.n_done = 0
        self._calls: list[tuple[int, int, Process | None, Callable[..., None], Args]] = []
        self._n_put = 0

    def put(self, at_ns: int, process: Process | None, call: Callable[..., None], *args) -> None:
        """`process`: who does it."""
        self._n_put += 1
        heapq.heappush(self._calls, (max(at_ns, self.now_ns), self._n_put, process, call, args))

    def step(self) -> bool:
        """Does the next thing; False: there is nothing left."""
        while self._calls:
            at_ns, order, process, call, args = heapq.heappop(self._calls)
            if process is not None:
                if process.is_over:
                    continue
                if process.stands_still_until_ns > at_ns:
                    # Its old place in the order: what a link brought stays in order.
                    later = (process.stands_still_until_ns, order, process, call, args)
                    heapq.heappush(self._calls, later)
                    continue
            self.now_ns = at_ns
            self.n_done += 1
            call(*args)
            return True
        return False
