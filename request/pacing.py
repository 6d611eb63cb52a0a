"""Pacing: long conversions stop now and then, so that another thread has its turn.

Owns how much is done between two stops. A thread that runs Python keeps an event loop beside it
waiting for 5 ms each time the loop comes back from the system; whoever works beside one passes a
`Pause` that sleeps for a moment, and may raise `Abandoned`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

# Some 0.3 ms of work each.
MESSAGES_A_TURN = 128
IDS_A_TURN = 8192

Pause: TypeAlias = Callable[[], None]

Item = TypeVar("Item")


class Abandoned(Exception):
    """Nobody wants the result any more."""


def no_pause() -> None:
    """For whoever has nobody to wait for."""


def empty(items: list[Item], pause: Pause) -> None:
    """Takes all items out: freeing hundreds of thousands at once takes as long as making them."""
    while items:
        del items[-MESSAGES_A_TURN:]
        pause()


def in_turns(items: Iterable[Item], n: int, pause: Pause) -> Iterator[Item]:
    """The same items; `pause` is called after each `n` of them."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % n == 0:
            pause()
