"""Kernels of matrix products of few rows: each weight is read once and widened in registers.

Such a product waits for memory, not for multiplications; torch's own spends longer. Importing this
module compiles or loads from the cache (`radix.jit`).
"""

from typing import Any

import numpy as np

from radixroute.radix.jit import kernel, summing_helper
from radixroute.worker.model.cpu.floats import floats_at, get, halves_at, put
from radixroute.worker.model.cpu.pairs import HAS_PAIRS, ROWS, STEP, pair_sums

SUMS = 16  # floats of the scratch memory that hold sums: a line

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


@summing_helper
def _product_of_pairs(
    x: _Pointer, scratch: int, weight: _Pointer, bias: _Pointer, out: _Pointer,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    """The same by pairs: rows are filled up to whole fours, which costs nothing beside memory."""
    sums, rows = floats_at(scratch), halves_at(scratch + 4 * SUMS)
    n_rows = (n + ROWS - 1) // ROWS * ROWS
    for i in range(n * columns):
        rows[i] = x[i]
    for i in range(n * columns, n_rows * columns):
        rows[i] = 0
    whole = columns // STEP * STEP
    for column in range(width):
        at = column * columns
        start = get(bias, column) if has_bias else _f32(0.0)
        for row in range(0, n, ROWS):
            pair_sums(weight, at, rows, row * columns, columns, whole, sums, 0)
            for r in range(min(ROWS, n - row)):
                total = start + get(sums, r)
                for i in range(whole, columns):
                    total += get(weight, at + i) * get(rows, (row + r) * columns + i)
                put(out, (row + r) * width + column, total)


def scratch_size(n: int, columns: int) -> int:
    """Floats that a call needs beside its arguments."""
    return SUMS + max(n, ROWS) * columns


_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"


@kernel(_SIGNATURE, reorders_sums=True)
def product_f32(
    x: int, wide: int, weight: int, bias: int, out: int,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    """(n, columns) by a weight of (width, columns) -> (n, width). `wide`: `scratch_size` floats."""
    _product(
        floats_at(x), floats_at(wide), floats_at(weight), floats_at(bias), floats_at(out),
        n, columns, width, has_bias,
    )  # fmt: skip


def _by_pairs(
    x: int, wide: int, weight: int, bias: int, out: int,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    if n == 1:  # it waits for memory whatever is done with what comes
        _product(
            halves_at(x), floats_at(wide), halves_at(weight), halves_at(bias), halves_at(out),
            n, columns, width, has_bias,
        )  # fmt: skip
        return
    _product_of_pairs(
        halves_at(x), wide, halves_at(weight), halves_at(bias), halves_at(out),
        n, columns, width, has_bias,
    )  # fmt: skip


def _by_widening(
    x: int, wide: int, weight: int, bias: int, out: int,
    n: int, columns: int, width: int, has_bias: int,
) -> None:  # fmt: skip
    _product(
        halves_at(x), floats_at(wide), halves_at(weight), halves_at(bias), halves_at(out),
        n, columns, width, has_bias,
    )  # fmt: skip


# Chosen here, not in the kernel: where a processor has no such instruction none may be compiled.
product_bf16 = kernel(_SIGNATURE, reorders_sums=True)(_by_pairs if HAS_PAIRS else _by_widening)
