"""Ctrl-C and its like: one way out of the demo, whatever it was doing.

SIGINT, SIGTERM and SIGHUP become `Interrupted`, which no `except Exception` swallows. In an event
loop they cancel its main task first. While the cluster is being taken down they are ignored.
"""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """Somebody asked the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, each of `SIGNALS` raises `Interrupted` in the main thread."""
    before = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_interruptible(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, except that a signal cancels `main` and then raises `Interrupted` here.

    Raised inside the loop it would end whichever task happens to run, and leave the rest.
    """
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return asyncio.run(_cancelled_by_signals(main, caught))
    except asyncio.CancelledError:
        if not caught:
            raise
        raise Interrupted(caught[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _cancelled_by_signals(main: Coroutine[Any, Any, T], caught: list[int]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)

    def cancel(number: int) -> None:
        caught.append(number)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel, number)
    return await task


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within, `SIGNALS` are ignored: what happens here has a time limit of its own."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)
