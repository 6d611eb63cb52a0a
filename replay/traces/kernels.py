"""Kernels over whole traces: numbers for prefixes. Compiled or loaded at import (`radix.jit`)."""

import numpy as np

from radixroute.radix.ids import Numbers, Runs
from radixroute.radix.jit import kernel
from radixroute.radix.mixing_kernels import MIX_1_WORD, MIX_2_WORD

_SHIFT = np.uint64(29)


@kernel("int64(int64[::1], int64[::1], int64[::1])", makes_arrays=True)
def number_prefixes(first: Numbers, blocks: Numbers, numbers: Numbers) -> int:
    """Numbers each distinct (prefix, id) from 0 in order of appearance; returns how many."""
    size = 16
    while size < 2 * len(blocks):
        size *= 2
    mask = size - 1
    places = np.full(size, -1, np.int64)  # number of the prefix that stands there
    above = np.empty(len(blocks), np.int64)  # of each prefix: the one before it
    ids = np.empty(len(blocks), np.int64)
    n = 0
    for request in range(len(first) - 1):
        parent = np.int64(-1)
        for i in range(first[request], first[request + 1]):
            block = blocks[i]
            h = (np.uint64(block) * MIX_1_WORD) ^ (np.uint64(parent + 1) * MIX_2_WORD)
            h ^= h >> _SHIFT
            place = np.int64(h * MIX_1_WORD >> _SHIFT) & mask
            while places[place] >= 0 and (
                above[places[place]] != parent or ids[places[place]] != block
            ):
                place = (place + 1) & mask
            if places[place] < 0:
                places[place] = n
                above[n] = parent
                ids[n] = block
                n += 1
            parent = places[place]
            numbers[i] = parent
    return n


@kernel("void(int64[::1], int64[::1], int64[::1], int64, int32[::1])")
def spread(first_block: Numbers, numbers: Numbers, first: Numbers, ratio: int, nodes: Runs) -> None:
    """Each numbered block as its `ratio` engine blocks, as many as the prompt fills."""
    for request in range(len(first) - 1):
        n = first[request + 1] - first[request]
        for j in range(n):
            number = numbers[first_block[request] + j // ratio]
            nodes[first[request] + j] = number * ratio + j % ratio
