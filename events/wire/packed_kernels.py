"""The kernel that packs a native batch: MessagePack bytes to words, in one strict pass."""

import numpy as np

from radixroute.events.wire.msgpack_kernels import (
    FLOAT,
    NIL,
    array_len,
    big,
    bin_len,
    byte,
    unsigned_size,
)
from radixroute.radix.ids import Flags, Keys, Numbers
from radixroute.radix.index.layout import (
    PACKED_CLEAR,
    PACKED_HEAD,
    PACKED_REMOVE,
    PACKED_STORE,
    PACKED_TIER_SHIFT,
)
from radixroute.radix.jit import helper, kernel

_EPOCH_BYTES = 16
_MAX_RANK = 1 << 16
_MAX_EVENTS = 1 << 16
_S, _R, _C = 0x53, 0x52, 0x43
_EIGHT = np.uint64(8)
_NONE = np.uint64(0)


@helper
def _rank(data: Flags, at: int) -> tuple[int, int]:
    """The rank at `at` and where what follows begins; -1: none."""
    tag = byte(data, at)
    if tag < 0x80:
        return tag, at + 1
    size = unsigned_size(tag)
    if size == 0 or at + 1 + size > len(data):
        return -1, at
    value = big(data, at + 1, size)
    rank: int = np.int64(min(value, np.uint64(_MAX_RANK + 1)))  # type: ignore[assignment]
    return (rank, at + 1 + size) if rank <= _MAX_RANK else (-1, at)


@helper
def _parent(data: Flags, at: int) -> tuple[np.uint64, int]:
    """The parent at `at` (0: nil) and where what follows begins; -1: neither key nor nil."""
    tag = byte(data, at)
    if tag == NIL:
        return _NONE, at + 1
    if 0 < tag < 0x80:
        return np.uint64(tag), at + 1
    size = unsigned_size(tag)
    if size == 0 or at + 1 + size > len(data):
        return _NONE, -1
    value = big(data, at + 1, size)
    return value, -1 if value == _NONE else at + 1 + size  # key 0 names no block


@helper
def _event(  # noqa: PLR0911 - every way in which it may not be understood
    data: Flags, at: int, words: Keys, n: int
) -> tuple[int, int]:
    """One event into `words` from `n`; where bytes and words go on, -1 if it is not understood."""
    n_items, at = array_len(data, at)
    tag = byte(data, at + 1)
    if n_items < 1 or byte(data, at) != 0xA1 or tag < 0:
        return -1, n
    at += 2
    parent = _NONE
    kind = PACKED_REMOVE
    if tag == _C and n_items == 1:
        words[n], words[n + 1], words[n + 2] = np.uint64(PACKED_CLEAR), _NONE, _NONE
        return at, n + PACKED_HEAD
    if tag == _S and n_items == 4:
        kind = PACKED_STORE
        parent, at = _parent(data, at)
    elif tag != _R or n_items != 3:
        return -1, n
    if at < 0:
        return -1, n
    n_bytes, first = bin_len(data, at)
    tier = byte(data, first + n_bytes)
    if n_bytes < 0 or n_bytes % 8 != 0 or not 0 <= tier <= 2:
        return -1, n
    words[n] = np.uint64(kind) | (np.uint64(tier) << PACKED_TIER_SHIFT)
    words[n + 1], words[n + 2] = parent, np.uint64(n_bytes // 8)
    n += PACKED_HEAD
    for i in range(first, first + n_bytes, 8):
        key = _NONE
        for j in range(i + 7, i - 1, -1):  # little endian: one load, once compiled
            key = (key << _EIGHT) | np.uint64(data[j])
        if key == _NONE:
            return -1, n
        words[n] = key
        n += 1
    return first + n_bytes + 1, n


@kernel("int64(Array(uint8, 1, 'C', readonly=True), uint64[::1], int64[::1])")
def pack(data: Flags, words: Keys, header: Numbers) -> int:
    """Words written, -1 for a payload that is not of the usual form.

    `header`: the bits of the time, the rank, where the epoch begins.
    """
    n_items, at = array_len(data, 0)
    if n_items != 4 or at + 9 > len(data) or data[at] != FLOAT:
        return -1
    bits = big(data, at + 1, 8)
    is_finite = (bits >> np.uint64(52)) & np.uint64(0x7FF) != np.uint64(0x7FF)
    header[0] = np.int64(bits)
    n_events, at = array_len(data, at + 9)
    if not is_finite or n_events < 0 or n_events > _MAX_EVENTS:
        return -1
    n = 0
    for _ in range(n_events):
        at, n = _event(data, at, words, n)
        if at < 0:
            return -1
    header[1], at = _rank(data, at)
    n_bytes, first = bin_len(data, at)
    header[2] = first
    is_whole = n_bytes == _EPOCH_BYTES and first + n_bytes == len(data)
    return n if is_whole and header[1] >= 0 else -1
