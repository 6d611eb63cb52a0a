"""Signals as a flag: commands that run until Ctrl-C look at it between two things they do whole.

A signal only sets the flag, so that nothing is ever left half written by one.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_flag() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came. A second one does what it always does."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(number, before[signal.Signals(number)])

    for one in before:
        signal.signal(one, stop)
    try:
        yield stopped.is_set
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
