"""Events of answers that were read once, so that equal ones need not be read again.

An event of a stream is a head that all of its stream have alike (its id, its model) and a rest that
many streams have alike: one token each. A rest was always read in full once, behind a head like
this one, so what is known is what reading it again would find.
"""

from collections.abc import Callable
from typing import Final

from radixroute.worker.companions.dialects.dialect import Heard

MAX_KNOWN: Final = 8192
# Longer ones are not those of one token.
MAX_BYTES: Final = 512


class KnownEvents:
    """By rest. `add` what was read; of `MAX_KNOWN` all are forgotten: they come again."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Heard, ...]] = {}
        # What a rest says; None: it was not read.
        self.find: Callable[[bytes], tuple[Heard, ...] | None] = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def add(self, rest: bytes, heard: Heard) -> None:
        if len(rest) > MAX_BYTES:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[rest] = (heard,)
