"""The kernel that reads a MessagePack array of token ids without making a Python number of any."""

import numpy as np

from radixroute.radix.ids import Flags, Tokens
from radixroute.radix.jit import kernel


@kernel("int64(Array(uint8, 1, 'C', readonly=True), uint32[::1])")
def read_ids(data: Flags, ids: Tokens) -> int:
    """Ids read into `ids`, which has room for all; -1 for anything but whole numbers below 2**32.

    `data` is one array, whole: a header of 1, 3 or 5 bytes, then the numbers.
    """
    size = len(data)
    if size == 0:
        return -1
    tag = np.int64(data[0])
    if 0x90 <= tag <= 0x9F:
        n, at = tag - 0x90, 1
    elif tag == 0xDC and size >= 3:
        n, at = np.int64(data[1]) << 8 | np.int64(data[2]), 3
    elif tag == 0xDD and size >= 5:
        n = np.int64(data[1]) << 24 | np.int64(data[2]) << 16
        n, at = n | np.int64(data[3]) << 8 | np.int64(data[4]), 5
    else:
        return -1
    for i in range(n):
        tag = np.int64(data[at]) if at < size else np.int64(-1)
        width = 1 if tag == 0xCC else 2 if tag == 0xCD else 4 if tag == 0xCE else 0
        if 0 <= tag < 0x80:
            ids[i] = np.uint32(tag)
            at += 1
        elif width == 0 or at + width >= size:
            return -1
        else:
            value = np.uint32(0)
            for j in range(at + 1, at + 1 + width):
                value = (value << np.uint32(8)) | np.uint32(data[j])
            ids[i] = value
            at += 1 + width
    return n if at == size else -1  # type: ignore[return-value]
