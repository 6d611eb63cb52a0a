"""Random bits: unguessable ones, for ids and seeds, which every request needs.

Owns some that were drawn ahead. The system is asked for many at once: each call lets go of the
interpreter, which a busy thread beside the loop then takes.
"""

import os
import random
import struct
from typing import Final

_BITS: Final = 64
_AHEAD: Final = struct.Struct("<256Q")


class RandomBits(random.SystemRandom):
    """The system's generator, 64 bits at a time. Of one process: never shared by a fork."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: list[int] = []

    def getrandbits(self, k: int) -> int:
        if k != _BITS:
            return super().getrandbits(k)
        if not self._drawn:
            self._drawn.extend(_AHEAD.unpack(os.urandom(_AHEAD.size)))
        return self._drawn.pop()
