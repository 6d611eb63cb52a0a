"""The kernel that packs a native batch: MessagePack bytes to words, in one strict pass."""

import numpy as np

from radixroute.radix.ids import Flags, Keys, Numbers
from radixroute.radix.jit import helper, kernel
from radixroute.radix.layout import (
    PACKED_CLEAR,
    PACKED_HEAD,
    PACKED_REMOVE,
    PACKED_STORE,
    PACKED_TIER_SHIFT,
)

_NIL, _FLOAT, _BIN8, _BIN16, _BIN32 = 0xC0, 0xCB, 0xC4, 0xC5, 0xC6
_U8, _U16, _U32, _U64, _ARRAY16, _ARRAY32 = 0xCC, 0xCD, 0xCE, 0xCF, 0xDC, 0xDD
_EPOCH_BYTES = 16
_MAX_RANK = 1 << 16
_MAX_EVENTS = 1 << 16
_S, _R, _C = 0x53, 0x52, 0x43
_EIGHT = np.uint64(8)
_NONE = np.uint64(0)


@helper
def _byte(data: Flags, at: int) -> int:
    """-1 beyond the end."""
    return np.int64(data[at]) if at < len(data) else np.int64(-1)  # type: ignore[return-value]


@helper
def _big(data: Flags, at: int, size: int) -> np.uint64:
    """A big-endian number."""
    value = _NONE
    for i in range(at, at + size):
        value = (value << _EIGHT) | np.uint64(data[i])
    return value


@helper
def _unsigned_size(tag: int) -> int:
    """Bytes behind the tag of an unsigned number that is no small one; 0: it is none."""
    if tag == _U8:
        return 1
    if tag == _U16:
        return 2
    if tag == _U32:
        return 4
    return 8 if tag == _U64 else 0


@helper
def _array_len(data: Flags, at: int) -> tuple[int, int]:
    """Items of the array at `at` and where they begin; -1: no array."""
    tag = _byte(data, at)
    if 0x90 <= tag <= 0x9F:
        return tag - 0x90, at + 1
    if tag == _ARRAY16 and at + 3 <= len(data):
        return np.int64(_big(data, at + 1, 2)), at + 3  # type: ignore[return-value]
    if tag == _ARRAY32 and at + 5 <= len(data):
        return np.int64(_big(data, at + 1, 4)), at + 5  # type: ignore[return-value]
    return -1, at


@helper
def _bin_len(data: Flags, at: int) -> tuple[int, int]:
    """Bytes of the binary at `at` and where they begin; -1: none, or torn."""
    tag = _byte(data, at)
    size = 1 if tag == _BIN8 else 2 if tag == _BIN16 else 4 if tag == _BIN32 else 0
    if size == 0 or at + 1 + size > len(data):
        return -1, at
    n: int = np.int64(_big(data, at + 1, size))  # type: ignore[assignment]
    first = at + 1 + size
    return (n, first) if first + n <= len(data) else (-1, at)


@helper
def _rank(data: Flags, at: int) -> tuple[int, int]:
    """The rank at `at` and where what follows begins; -1: none."""
    tag = _byte(data, at)
    if tag < 0x80:
        return tag, at + 1
    size = _unsigned_size(tag)
    if size == 0 or at + 1 + size > len(data):
        return -1, at
    value = _big(data, at + 1, size)
    rank: int = np.int64(min(value, np.uint64(_MAX_RANK + 1)))  # type: ignore[assignment]
    return (rank, at + 1 + size) if rank <= _MAX_RANK else (-1, at)


@helper
def _parent(data: Flags, at: int) -> tuple[np.uint64, int]:
    """The parent at `at` (0: nil) and where what follows begins; -1: neither key nor nil."""
    tag = _byte(data, at)
    if tag == _NIL:
        return _NONE, at + 1
    if 0 < tag < 0x80:
        return np.uint64(tag), at + 1
    size = _unsigned_size(tag)
    if size == 0 or at + 1 + size > len(data):
        return _NONE, -1
    value = _big(data, at + 1, size)
    return value, -1 if value == _NONE else at + 1 + size  # key 0 names no block


@helper
def _event(  # noqa: PLR0911 - every way in which it may not be understood
    data: Flags, at: int, words: Keys, n: int
) -> tuple[int, int]:
    """One event into `words` from `n`; where bytes and words go on, -1 if it is not understood."""
    n_items, at = _array_len(data, at)
    tag = _byte(data, at + 1)
    if n_items < 1 or _byte(data, at) != 0xA1 or tag < 0:
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
    n_bytes, first = _bin_len(data, at)
    tier = _byte(data, first + n_bytes)
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
    n_items, at = _array_len(data, 0)
    if n_items != 4 or at + 9 > len(data) or data[at] != _FLOAT:
        return -1
    bits = _big(data, at + 1, 8)
    is_finite = (bits >> np.uint64(52)) & np.uint64(0x7FF) != np.uint64(0x7FF)
    header[0] = np.int64(bits)
    n_events, at = _array_len(data, at + 9)
    if not is_finite or n_events < 0 or n_events > _MAX_EVENTS:
        return -1
    n = 0
    for _ in range(n_events):
        at, n = _event(data, at, words, n)
        if at < 0:
            return -1
    header[1], at = _rank(data, at)
    n_bytes, first = _bin_len(data, at)
    header[2] = first
    is_whole = n_bytes == _EPOCH_BYTES and first + n_bytes == len(data)
    return n if is_whole and header[1] >= 0 else -1
