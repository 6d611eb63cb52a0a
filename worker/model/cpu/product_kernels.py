"""Kernels of matrix products of few rows: each weight is read once and widened in registers.

Such a product waits for memory, not for multiplications; torch's own spends longer. Importing this
module compiles or loads from the cache (`radix.jit`).
"""

from typing import Any

import numpy as np

from radixroute.radix.jit import kernel, summing_helper
from radixroute.worker.model.cpu.floats import floats_at, get, halves_at, put

_Pointer = Any
_f32 = np.float32


@summing_helper
def _product(
    x: _Pointer, wide: _Pointer, weight: _Pointer, bias: _Pointer, out: _Pointer,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    """One column after the other: memory gives most where it is read in one stream."""
    for i in range(n * columns):
        put(wide, i, get(x, i))
    for column in range(width):
        at = column * columns
        start = get(bias, column) if has_bias else _f32(0.0)
        row = 0
        while row + 4 <= n:
            a, b, c, d = start, start, start, start
            x0 = row * columns
            x1, x2, x3 = x0 + columns, x0 + 2 * columns, x0 + 3 * columns
            for i in range(columns):
                w = get(weight, at + i)
                a += w * get(wide, x0 + i)
                b += w * get(wide, x1 + i)
                c += w * get(wide, x2 + i)
                d += w * get(wide, x3 + i)
            to = row * width + column
            put(out, to, a)
            put(out, to + width, b)
            put(out, to + 2 * width, c)
            put(out, to + 3 * width, d)
            row += 4
        while row < n:
            total = start
            x0 = row * columns
            for i in range(columns):
                total += get(weight, at + i) * get(wide, x0 + i)
            put(out, row * width + column, total)
            row += 1


_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"


@kernel(_SIGNATURE, reorders_sums=True)
def product_f32(
    x: int, wide: int, weight: int, bias: int, out: int,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    """(n, columns) by a weight of (width, columns) -> (n, width); `wide`: float32 as large as x."""
    _product(
        floats_at(x), floats_at(wide), floats_at(weight), floats_at(bias), floats_at(out),
        n, columns, width, has_bias,
    )  # fmt: skip


@kernel(_SIGNATURE, reorders_sums=True)
def product_bf16(
    x: int, wide: int, weight: int, bias: int, out: int,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    """The same."""
    _product(
        halves_at(x), floats_at(wide), halves_at(weight), halves_at(bias), halves_at(out),
        n, columns, width, has_bias,
    )  # fmt: skip
