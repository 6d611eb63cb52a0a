"""Kernel of node numbers: two hash tables, linear probing. Compiled or loaded at import."""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.jit import helper, kernel
from radixroute.radix.mixing_kernels import finalise_word


@helper
def _place(key: np.uint64, keys: Keys, nodes: NDArray[np.int32]) -> int:
    """Where it stands, or would."""
    mask = len(keys) - 1
    place = np.int64(finalise_word(key) & np.uint64(mask))
    while nodes[place] >= 0 and keys[place] != key:
        place = (place + 1) & mask
    return place  # type: ignore[return-value]


@kernel(
    "int64(uint64[::1], uint64[::1], int32[::1], uint64[::1], int32[::1], int64[::1], int32[::1])"
)
def number(  # noqa: PLR0913, PLR0917 - two tables, and what they are asked
    keys: Keys,
    young_keys: Keys,
    young_nodes: NDArray[np.int32],
    old_keys: Keys,
    old_nodes: NDArray[np.int32],
    counts: Numbers,
    nodes: NDArray[np.int32],
) -> int:
    """Numbers of the first keys, as many as the younger table has room for; returns how many.

    `counts`: keys in the younger table, the next number, the most keys.
    """
    for i in range(len(keys)):
        key = keys[i]
        place = _place(key, young_keys, young_nodes)
        if young_nodes[place] < 0:
            if counts[0] == counts[2]:
                return i
            before = old_nodes[_place(key, old_keys, old_nodes)]
            if before < 0:
                before = counts[1]
                counts[1] += 1
            young_keys[place] = key
            young_nodes[place] = before
            counts[0] += 1
        nodes[i] = young_nodes[place]
    return len(keys)
