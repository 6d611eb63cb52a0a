"""Compiled kernel: a rolling hash over every run of tokens, and of runs near each other the least.

Importing this module compiles or loads from the cache (`jit`), so it is imported at first use
only, by `marks`.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Tokens
from radixroute.radix.jit import kernel
from radixroute.radix.mixing_kernels import GAMMA_WORD, finalise_word


@kernel(
    "uint64[::1](Array(uint32, 1, 'C', readonly=True), int64, int64, uint64)", makes_arrays=True
)
def mark(tokens: Tokens, run: int, window: int, seed: np.uint64) -> NDArray[np.uint64]:
    """Where a run begins that is the least of some window, in the upper half, and what it hashes
    to, in the lower."""
    n = max(tokens.shape[0] - run + 1, 0)
    rolls = np.empty(n, np.uint64)
    found = np.empty(n, np.uint64)
    kept = 0
    base, half = seed | np.uint64(1), np.uint64(32)
    leaving = np.uint64(1)  # what a token weighs when its run has passed
    for _ in range(run):
        leaving *= base
    rolled = np.uint64(0)
    for at in range(tokens.shape[0]):
        rolled = rolled * base + np.uint64(tokens[at]) + np.uint64(1)
        if at >= run:
            rolled -= leaving * (np.uint64(tokens[at - run]) + np.uint64(1))
        if at >= run - 1:
            rolls[at - run + 1] = rolled
    # Runs are ordered by a product: its upper bits depend on all of its factors' bits.
    least, lowest = -1, np.uint64(0)
    for last in range(max(min(window, n) - 1, 0), n):
        first = max(last - window + 1, 0)
        if least >= first:  # it is in this window, too: of equals it stays
            order = rolls[last] * GAMMA_WORD
            if order >= lowest:
                continue
            least, lowest = last, order
        else:
            least, lowest = first, rolls[first] * GAMMA_WORD
            for at in range(first + 1, last + 1):
                order = rolls[at] * GAMMA_WORD
                if order <= lowest:
                    least, lowest = at, order
        hashed = finalise_word(rolls[least] ^ seed) >> half
        found[kept] = (np.uint64(least) << half) | hashed
        kept += 1
    return found[:kept].copy()
