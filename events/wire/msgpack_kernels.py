"""Helpers for kernels that read MessagePack: one item each, strictly, no byte beyond the end."""

import numpy as np

from radixroute.radix.ids import Flags
from radixroute.radix.jit import helper, rare_helper

NIL, FLOAT = 0xC0, 0xCB
_BIN8, _BIN16, _BIN32, _STR8, _STR16 = 0xC4, 0xC5, 0xC6, 0xD9, 0xDA
_U8, _U16, _U32, _U64, _ARRAY16, _ARRAY32 = 0xCC, 0xCD, 0xCE, 0xCF, 0xDC, 0xDD
_I8, _I64, _FLOAT32, _FALSE, _TRUE = 0xD0, 0xD3, 0xCA, 0xC2, 0xC3
_MAX_NESTED = 64
_EIGHT = np.uint64(8)
_NONE = np.uint64(0)


@helper
def byte(data: Flags, at: int) -> int:
    """-1 beyond the end."""
    return np.int64(data[at]) if at < len(data) else np.int64(-1)  # type: ignore[return-value]


@helper
def big(data: Flags, at: int, size: int) -> np.uint64:
    """A big-endian number."""
    value = _NONE
    for i in range(at, at + size):
        value = (value << _EIGHT) | np.uint64(data[i])
    return value


@helper
def unsigned_size(tag: int) -> int:
    """Bytes behind the tag of an unsigned number that is no small one; 0: it is none."""
    if tag == _U8:
        return 1
    if tag == _U16:
        return 2
    if tag == _U32:
        return 4
    return 8 if tag == _U64 else 0


@helper
def array_len(data: Flags, at: int) -> tuple[int, int]:
    """Items of the array at `at` and where they begin; -1: no array."""
    tag = byte(data, at)
    if 0x90 <= tag <= 0x9F:
        return tag - 0x90, at + 1
    if tag == _ARRAY16 and at + 3 <= len(data):
        return np.int64(big(data, at + 1, 2)), at + 3  # type: ignore[return-value]
    if tag == _ARRAY32 and at + 5 <= len(data):
        return np.int64(big(data, at + 1, 4)), at + 5  # type: ignore[return-value]
    return -1, at


@helper
def bin_len(data: Flags, at: int) -> tuple[int, int]:
    """Bytes of the binary at `at` and where they begin; -1: none, or torn."""
    tag = byte(data, at)
    size = 1 if tag == _BIN8 else 2 if tag == _BIN16 else 4 if tag == _BIN32 else 0
    if size == 0 or at + 1 + size > len(data):
        return -1, at
    n: int = np.int64(big(data, at + 1, size))  # type: ignore[assignment]
    first = at + 1 + size
    return (n, first) if first + n <= len(data) else (-1, at)


@helper
def map_len(data: Flags, at: int) -> tuple[int, int]:
    """Pairs of the small map at `at` and where they begin; -1: no small map."""
    tag = byte(data, at)
    return (tag - 0x80, at + 1) if 0x80 <= tag <= 0x8F else (-1, at)


@helper
def text_len(data: Flags, at: int) -> tuple[int, int]:
    """Bytes of the text at `at` and where they begin; -1: none, or torn."""
    tag = byte(data, at)
    n, first = -1, at
    if 0xA0 <= tag <= 0xBF:
        n, first = tag - 0xA0, at + 1
    elif tag == _STR8 and at + 2 <= len(data):
        n, first = byte(data, at + 1), at + 2
    elif tag == _STR16 and at + 3 <= len(data):
        n, first = np.int64(big(data, at + 1, 2)), at + 3  # type: ignore[assignment]
    return (n, first) if first + n <= len(data) else (-1, at)


@helper
def is_ascii(data: Flags, first: int, n: int) -> bool:
    """Whether these bytes are a text whatever the rest says; other texts are for who knows them."""
    for i in range(first, first + n):  # noqa: SIM110 - a kernel has no generators
        if data[i] >= 0x80:
            return False
    return True


@helper
def count(data: Flags, at: int) -> tuple[int, int]:
    """The small whole number at `at` and where what follows begins; -1: none, or beyond 2**31."""
    tag = byte(data, at)
    if 0 <= tag < 0x80:
        return tag, at + 1
    size = unsigned_size(tag)
    if size == 0 or at + 1 + size > len(data):
        return -1, at
    value = big(data, at + 1, size)
    if value > np.uint64(0x7FFFFFFF):
        return -1, at
    return np.int64(value), at + 1 + size  # type: ignore[return-value]


@helper
def word(data: Flags, at: int) -> tuple[np.uint64, int]:
    """The number at `at`, modulo 2**64, and where what follows begins; -1: none."""
    tag = byte(data, at)
    if 0 <= tag < 0x80:
        return np.uint64(tag), at + 1
    if tag >= 0xE0:
        return np.uint64(tag - 0x100), at + 1
    size = unsigned_size(tag)
    is_signed = _I8 <= tag <= _I64
    if is_signed:
        size = 1 << (tag - _I8)
    if size == 0 or at + 1 + size > len(data):
        return _NONE, -1
    value = big(data, at + 1, size)
    if is_signed and data[at + 1] >= 0x80 and size < 8:
        value |= ~_NONE << np.uint64(8 * size)
    return value, at + 1 + size


@rare_helper
def skip(data: Flags, at: int) -> int:
    """Where what follows the item at `at` begins.

    -1: it is torn, a map, an extension, deep, or has a text that may be none: not ASCII.
    """
    left, n_arrays = 1, 0
    while left > 0:
        left -= 1
        tag = byte(data, at)
        if 0 <= tag < 0x80 or tag in (NIL, _FALSE, _TRUE) or tag >= 0xE0:
            at += 1
            continue
        size = unsigned_size(tag)
        if _I8 <= tag <= _I64:
            size = 1 << (tag - _I8)
        elif tag in (FLOAT, _FLOAT32):
            size = 8 if tag == FLOAT else 4
        if size != 0:
            at += 1 + size
            continue
        n, first = array_len(data, at)
        if n >= 0:
            left += n
            n_arrays += 1
            at = first
        else:
            n, first = text_len(data, at)
            if n < 0:
                n, first = bin_len(data, at)
            elif not is_ascii(data, first, n):
                return -1
            at = first + n
        if n < 0 or n_arrays > _MAX_NESTED:
            return -1
    return at if at <= len(data) else -1
