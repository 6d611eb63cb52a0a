"""Meter: what an input costs, in calls of Python and C functions. No clock is read.

A loop over all that wait calls something for each of them: it shows, on any machine alike.
"""

import sys
from collections.abc import Callable, Iterable


class Meter:
    """Of the inputs of one core, which are wrapped."""

    def __init__(self, core: object, inputs: Iterable[str]) -> None:
        self._calls = 0
        self._is_counting = False
        for name in inputs:
            setattr(core, name, self._metered(getattr(core, name)))

    def take(self) -> int:
        """Calls since it was asked last."""
        calls, self._calls = self._calls, 0
        return calls

    def _metered(self, call: Callable[..., object]) -> Callable[..., object]:
        def metered(*args, **named):
            if self._is_counting:  # one input may be a part of another
                return call(*args, **named)
            self._is_counting = True
            sys.setprofile(self._count)
            try:
                return call(*args, **named)
            finally:
                sys.setprofile(None)
                self._is_counting = False

        return metered

    def _count(self, frame: object, event: str, arg: object) -> None:
        self._calls += event in {"call", "c_call"}
