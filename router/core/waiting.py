"""Waiting requests: accepted, and no worker can take them yet. Bounded; nothing waits for ever.

Owns the order: requests that were already running elsewhere come first, then by arrival.
"""

from collections import deque
from collections.abc import Iterator

from radixroute.router.core.requests import Request


class WaitingQueue:
    """Requests without a worker, in the order in which they will get one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._resumed: deque[Request] = deque()
        self._fresh: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._resumed) + len(self._fresh)

    def __iter__(self) -> Iterator[Request]:
        yield from self._resumed
        yield from self._fresh

    @property
    def is_full(self) -> bool:
        """For new requests only: one that lost its worker is never turned away here."""
        return len(self._fresh) >= self._capacity

    def push(self, request: Request) -> None:
        (self._resumed if request.attempt else self._fresh).append(request)

    def pop(self) -> Request:
        return self._resumed.popleft() if self._resumed else self._fresh.popleft()

    def remove(self, request: Request) -> None:
        (self._resumed if request.attempt else self._fresh).remove(request)
