"""Offer: whoever consumes what sockets receive may take it from them itself.

A thread that takes messages has to get hold of the interpreter for each of their frames, and a
busy consumer lets go of it late: both lose more by that than a message costs. So the thread waits
for messages and offers them; it takes them itself only from a consumer that does not come. Sockets
are one thread's at a time: the lock says whose. Owns nothing but that.
"""

import threading
from collections.abc import Callable
from typing import Final

# So long a consumer may be busy with something else before its messages are queued for it.
LATE_S: Final = 0.02


class Offer:
    """`make` is the thread's, `take` anybody's."""

    def __init__(self, take: Callable[[], None]) -> None:
        """`take`: from the sockets, in bounded time."""
        self._take = take
        self._lock = threading.Lock()
        self._stands = False
        self._is_over = threading.Lock()  # released by whoever took it
        self._is_over.acquire()

    def make(self, ask: Callable[[], None]) -> None:
        """Returns when it was taken. `ask`: lets the consumer know, who may come at once."""
        with self._lock:
            self._stands = True
        ask()
        if not self._is_over.acquire(timeout=LATE_S):
            self.take()
            self._is_over.acquire()  # whoever was first

    def take(self) -> None:
        """What is offered; nothing, if another was first."""
        with self._lock:
            if not self._stands:
                return
            self._stands = False
            try:
                self._take()
            finally:
                self._is_over.release()
