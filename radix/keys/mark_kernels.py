"""Compiled kernel: a rolling hash over every run of tokens, of which few are kept.

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
def mark(tokens: Tokens, run: int, n_bits: int, seed: np.uint64) -> NDArray[np.uint64]:
    """Where a run begins that is kept, one in two to the `n_bits`, in the upper half, and what it
    hashes to, in the lower."""
    n = tokens.shape[0] - run + 1
    found = np.empty(max(n, 0), np.uint64)
    kept = 0
    base, half, unkept = seed | np.uint64(1), np.uint64(32), np.uint64(64 - n_bits)
    leaving = np.uint64(1)  # what a token weighs when its run has passed
    for _ in range(run):
        leaving *= base
    rolled = np.uint64(0)
    for at in range(tokens.shape[0]):
        rolled = rolled * base + np.uint64(tokens[at]) + np.uint64(1)
        if at >= run:
            rolled -= leaving * (np.uint64(tokens[at - run]) + np.uint64(1))
        if at < run - 1:
            continue
        # The upper bits of a product depend on all of its factors' bits.
        if (rolled * GAMMA_WORD) >> unkept == np.uint64(0):
            hashed = finalise_word(rolled ^ seed) >> half
            found[kept] = (np.uint64(at - run + 1) << half) | hashed
            kept += 1
    return found[:kept].copy()
