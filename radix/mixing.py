"""Mixing: SplitMix64's constants and finaliser, written once (Steele, Lea, Flood 2014).

They spread what differs in few bits over all 64. Digests of the wire, block keys and seeded replays
are made with them: never change a number. Pure, and free of numba; `mixing_kernels` has the form
that kernels call.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MASK: Final = 2**64 - 1
GAMMA: Final = 0x9E3779B97F4A7C15  # what SplitMix64 steps by: 2**64 divided by the golden ratio
MIX_1: Final = 0xBF58476D1CE4E5B9
MIX_2: Final = 0x94D049BB133111EB

_MIX_1, _MIX_2 = np.uint64(MIX_1), np.uint64(MIX_2)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def finalise(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of each word of an array, modulo 2**64."""
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


def finalise_int(z: int) -> int:
    """Of any number, modulo 2**64; shares nothing with the other form."""
    z &= MASK
    z = ((z ^ (z >> 30)) * MIX_1) & MASK
    z = ((z ^ (z >> 27)) * MIX_2) & MASK
    return z ^ (z >> 31)
