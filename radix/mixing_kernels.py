"""Mixing for kernels: SplitMix64's finaliser of one word, compiled into whoever calls it."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from radixroute.radix.jit import helper
from radixroute.radix.mixing import GAMMA, MIX_1, MIX_2, finalise

GAMMA_WORD: Final = np.uint64(GAMMA)
MIX_1_WORD: Final = np.uint64(MIX_1)
MIX_2_WORD: Final = np.uint64(MIX_2)

# The very lines of `finalise`: numba compiles them for a word as for an array.
_finalise: Any = finalise
finalise_word: Callable[[np.uint64], np.uint64] = helper(_finalise)
