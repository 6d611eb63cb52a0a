"""Kernels over a step's rows: norms, positions, gates, and rows into the pool.

Each computes in float32 and rounds once, at its end. A kernel is there for rows in float32 and one
for rows in bfloat16; both are the same helper over other pointers. Importing this module compiles
or loads from the cache (`radix.jit`).
"""

from typing import Any

import numpy as np

from radixroute.radix.jit import helper, kernel, summing_helper
from radixroute.worker.model.cpu.floats import (
    either,
    floats_at,
    get,
    halves_at,
    numbers_at,
    power_of_e,
    put,
)

_Pointer = Any
_f32 = np.float32


@summing_helper
def _norm(
    x: _Pointer, at: int, weight: _Pointer, out: _Pointer, width: int, eps: float, weighted: int
) -> None:
    """One row, from `at` on."""
    total = _f32(0.0)
    for i in range(width):
        value = get(x, at + i)
        total += value * value
    scale = _f32(1.0) / np.sqrt(total / _f32(width) + eps)
    if weighted:
        for i in range(width):
            put(out, at + i, get(x, at + i) * scale * get(weight, i))
    else:
        for i in range(width):
            put(out, at + i, get(x, at + i) * scale)


@summing_helper
def _rms_norm(
    x: _Pointer, weight: _Pointer, out: _Pointer, n: int, width: int, eps: float, weighted: int
) -> None:
    for row in range(n):
        _norm(x, row * width, weight, out, width, eps, weighted)


@summing_helper
def _add_norm(
    x: _Pointer, delta: _Pointer, weight: _Pointer, out: _Pointer, n: int, width: int, eps: float
) -> None:
    for row in range(n):
        at = row * width
        for i in range(width):
            put(x, at + i, get(x, at + i) + get(delta, at + i))
        _norm(x, at, weight, out, width, eps, 1)


@summing_helper
def _swiglu(gate_up: _Pointer, out: _Pointer, n: int, width: int) -> None:
    for row in range(n):
        at = row * 2 * width
        for i in range(width):
            gate = get(gate_up, at + i)
            less = power_of_e(-abs(gate))
            share = either(gate >= _f32(0.0), _f32(1.0), less) / (_f32(1.0) + less)
            put(out, row * width + i, gate * share * get(gate_up, at + width + i))


@summing_helper
def _rotate(
    x: _Pointer, cos: _Pointer, sin: _Pointer, out: _Pointer,
    n: int, heads: int, half: int, stride: int,
) -> None:  # fmt: skip
    for row in range(n):
        angle = row * half
        for head in range(heads):
            first = row * stride + head * 2 * half
            to = (row * heads + head) * 2 * half
            for i in range(half):
                a, b = get(x, first + i), get(x, first + half + i)
                c, s = get(cos, angle + i), get(sin, angle + i)
                put(out, to + i, a * c - b * s)
                put(out, to + half + i, b * c + a * s)


@helper
def _keep(
    rows: _Pointer, plane: _Pointer, slots: _Pointer, n: int, width: int, stride: int
) -> None:
    for row in range(n):
        to = slots[row] * width
        for i in range(width):
            plane[to + i] = rows[row * stride + i]


@kernel("void(int64, int64, int64, int64, int64, float32, int64)", reorders_sums=True)
def rms_norm_f32(
    x: int, weight: int, out: int, n: int, width: int, eps: float, weighted: int
) -> None:
    """(n, width) -> (n, width); `weighted` is 0 where all weights are 1."""
    _rms_norm(floats_at(x), floats_at(weight), floats_at(out), n, width, eps, weighted)


@kernel("void(int64, int64, int64, int64, int64, float32, int64)", reorders_sums=True)
def rms_norm_bf16(
    x: int, weight: int, out: int, n: int, width: int, eps: float, weighted: int
) -> None:
    """The same."""
    _rms_norm(halves_at(x), halves_at(weight), halves_at(out), n, width, eps, weighted)


@kernel("void(int64, int64, int64, int64, int64, int64, float32)", reorders_sums=True)
def add_norm_f32(x: int, delta: int, weight: int, out: int, n: int, width: int, eps: float) -> None:
    """x += delta, (n, width), then its norm."""
    _add_norm(floats_at(x), floats_at(delta), floats_at(weight), floats_at(out), n, width, eps)


@kernel("void(int64, int64, int64, int64, int64, int64, float32)", reorders_sums=True)
def add_norm_bf16(
    x: int, delta: int, weight: int, out: int, n: int, width: int, eps: float
) -> None:
    """The same."""
    _add_norm(halves_at(x), halves_at(delta), halves_at(weight), halves_at(out), n, width, eps)


@kernel("void(int64, int64, int64, int64)", reorders_sums=True)
def swiglu_f32(gate_up: int, out: int, n: int, width: int) -> None:
    """(n, 2 * width) -> (n, width)."""
    _swiglu(floats_at(gate_up), floats_at(out), n, width)


@kernel("void(int64, int64, int64, int64)", reorders_sums=True)
def swiglu_bf16(gate_up: int, out: int, n: int, width: int) -> None:
    """The same."""
    _swiglu(halves_at(gate_up), halves_at(out), n, width)


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64)", reorders_sums=True)
def rotate_f32(
    x: int, cos: int, sin: int, out: int, n: int, heads: int, half: int, stride: int
) -> None:
    """Rows `stride` numbers apart; cos and sin (n, half); out (n, heads, 2 * half)."""
    _rotate(floats_at(x), floats_at(cos), floats_at(sin), floats_at(out), n, heads, half, stride)


@kernel("void(int64, int64, int64, int64, int64, int64, int64, int64)", reorders_sums=True)
def rotate_bf16(
    x: int, cos: int, sin: int, out: int, n: int, heads: int, half: int, stride: int
) -> None:
    """The same."""
    _rotate(halves_at(x), halves_at(cos), halves_at(sin), halves_at(out), n, heads, half, stride)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def keep_f32(rows: int, plane: int, slots: int, n: int, width: int, stride: int) -> None:
    """Rows `stride` numbers apart into their slots of a layer's plane."""
    _keep(floats_at(rows), floats_at(plane), numbers_at(slots), n, width, stride)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def keep_bf16(rows: int, plane: int, slots: int, n: int, width: int, stride: int) -> None:
    """The same."""
    _keep(halves_at(rows), halves_at(plane), numbers_at(slots), n, width, stride)
