"""Kernel of token ids in JSON: from the bytes of a list to the ids. Pure.

Importing this module compiles or loads from the cache (`radix.jit`).
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Tokens
from radixroute.radix.jit import kernel

Bytes: TypeAlias = NDArray[np.uint8]
_SPACE: Final = 0x20
_COMMA: Final = 0x2C
_ZERO: Final = 0x30
_NINE: Final = 0x39
_OPEN: Final = 0x5B
_CLOSE: Final = 0x5D
_MOST_DIGITS: Final = 10
_U32_END: Final = 1 << 32


@kernel("int64(Array(uint8, 1, 'C', readonly=True), uint32[::1])")
def read_ids(data: Bytes, ids: Tokens) -> int:
    """A list of plain numbers into `ids`, which has room for half as many as there are bytes; how
    many. -1: it may be one all the same, but somebody else has to look, who can say what is wrong.
    """
    last = len(data) - 1
    if last < 2 or data[0] != _OPEN or data[last] != _CLOSE:
        return -1
    at, n = 1, 0
    while True:
        while data[at] == _SPACE:
            at += 1
        first, value = at, 0
        while _ZERO <= data[at] <= _NINE and at - first <= _MOST_DIGITS:
            value = value * 10 + (int(data[at]) - _ZERO)
            at += 1
        n_digits = at - first
        if n_digits == 0 or value >= _U32_END or (n_digits > 1 and data[first] == _ZERO):
            return -1
        ids[n] = value
        n += 1
        while data[at] == _SPACE:
            at += 1
        if at == last:
            return n
        if data[at] != _COMMA:
            return -1
        at += 1
