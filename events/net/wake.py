"""Wakes a thread that polls sockets: a file descriptor that becomes readable. Linux eventfd."""

import os
import threading


class WakeSignal:
    """`set` from any thread, `clear` from the one that polls. Setting twice wakes once."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A descriptor number is used again by the next file opened: never write to a closed one.
        self._lock = threading.Lock()
        self._is_closed = False

    def fileno(self) -> int:
        return self._fd

    def set(self) -> None:
        """Makes the next poll return. Does nothing once closed."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Makes polls wait again."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return  # nobody set it

    def close(self) -> None:
        """Both sides are done with it."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._fd)
