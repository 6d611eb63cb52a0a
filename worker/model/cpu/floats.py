"""Numbers in memory as kernels meet them: by an address, in float32 or as bfloat16's bits.

numba knows no bfloat16, so those are 16-bit integers, widened on reading and rounded to the nearest
even on writing, as torch does. Kernels get addresses, since making an array of a tensor takes
longer than a kernel of one row; who calls them answers for types and sizes. Called by this folder's
kernels; leans on numba's insides.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from radixroute.radix.jit import summing_helper

_types: Any = types
_intrinsic: Any = intrinsic
_f32, _i32 = np.float32, np.int32
_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)


def _at(kind: Any) -> Any:
    """An intrinsic: address -> pointer to numbers of a kind."""

    def at(_typing: Any, _address: Any) -> Any:
        signature = _types.CPointer(kind)(_types.int64)

        def build(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

        return signature, build

    return _intrinsic(at)


floats_at: Any = _at(_types.float32)
halves_at: Any = _at(_types.uint16)
numbers_at: Any = _at(_types.int64)


def _get(_typing: Any, pointer: Any, _index: Any) -> Any:
    """pointer[index] as float32."""
    signature = _types.float32(pointer, _types.int64)

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        value = builder.load(builder.gep(given[0], [given[1]]))
        if pointer.dtype == _types.float32:
            return value
        wide = builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16))
        return builder.bitcast(wide, _F32)

    return signature, build


get: Any = _intrinsic(_get)


LANES = 16


def _widen(_typing: Any, pointer: Any, _index: Any, tile: Any, _to: Any) -> Any:
    """`LANES` numbers from pointer[index] on into tile[to] and behind it, which is float32.

    One vector: of a loop, LLVM would have to prove that the two lie apart.
    """
    signature = _types.void(pointer, _types.int64, tile, _types.int64)

    def build(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        is_wide = pointer.dtype == _types.float32
        kind = ir.VectorType(_F32 if is_wide else _I16, LANES)
        place = builder.bitcast(builder.gep(given[0], [given[1]]), kind.as_pointer())
        value = builder.load(place, align=4 if is_wide else 2)
        if not is_wide:
            words = ir.VectorType(_I32, LANES)
            moved = builder.shl(builder.zext(value, words), ir.Constant(words, [16] * LANES))
            value = builder.bitcast(moved, ir.VectorType(_F32, LANES))
        to = builder.gep(given[2], [given[3]])
        builder.store(value, builder.bitcast(to, value.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, build


widen: Any = _intrinsic(_widen)


def _put(_typing: Any, pointer: Any, _index: Any, _value: Any) -> Any:
    """pointer[index] = value, a float32."""
    signature = _types.void(pointer, _types.int64, _types.float32)

    def build(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        value = given[2]
        if pointer.dtype != _types.float32:
            value = _rounded(builder, value)
        builder.store(value, builder.gep(given[0], [given[1]]))
        return context.get_dummy_value()

    return signature, build


put: Any = _intrinsic(_put)


def _rounded(builder: Any, value: Any) -> Any:
    """To the nearest even; a NaN stays one, whose upper bits may all be zero."""
    bits = builder.bitcast(value, _I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
    moved = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
    upper = builder.trunc(builder.lshr(moved, ir.Constant(_I32, 16)), _I16)
    is_number = builder.fcmp_ordered("ord", value, value)
    return builder.select(is_number, upper, ir.Constant(_I16, 0x7FC0))


def _either(_typing: Any, _condition: Any, _yes: Any, _no: Any) -> Any:
    """`yes if condition else no` of two float32, without a branch: those keep loops from becoming
    vectors."""
    signature = _types.float32(_types.boolean, _types.float32, _types.float32)

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        return builder.select(*given)

    return signature, build


either: Any = _intrinsic(_either)


def _order_of(_typing: Any, _value: Any) -> Any:
    """A float32's place among all: an int32 that is greater where the float is, NaN the greatest.

    (A NaN with its sign set is the least.) Maxima of integers become vectors, those of floats do
    only where NaN is ruled out.
    """
    signature = _types.int32(_types.float32)

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        return _turned(builder, builder.bitcast(given[0], _I32))

    return signature, build


order_of: Any = _intrinsic(_order_of)


def _at_order(_typing: Any, _place: Any) -> Any:
    """The float32 of a place."""
    signature = _types.float32(_types.int32)

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        return builder.bitcast(_turned(builder, given[0]), _F32)

    return signature, build


at_order: Any = _intrinsic(_at_order)


def _turned(builder: Any, bits: Any) -> Any:
    """Negative floats are larger the farther they are from 0: all bits but the sign's turn."""
    sign = builder.ashr(bits, ir.Constant(_I32, 31))
    return builder.xor(bits, builder.lshr(sign, ir.Constant(_I32, 1)))


def _two_to_build(_typing: Any, _exponent: Any) -> Any:
    """2 ** exponent, a whole number from -126 to 127, by its bits."""
    signature = _types.float32(_types.int32)

    def build(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        biased = builder.add(given[0], ir.Constant(_I32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_I32, 23)), _F32)

    return signature, build


_two_to: Any = _intrinsic(_two_to_build)


@summing_helper
def power_of_e(x: float) -> float:
    """exp(x) of x <= 0, wrong by a few millionths of it at most, 0 below -87; NaN for NaN.

    Without a call of the C library, so that loops of it become vectors. 2 ** n times a polynomial
    of 2 ** f from -1/2 to 1/2 (Chebyshev points, wrong by 3e-9 at most).
    """
    y = x * _f32(1.4426950408889634)
    y = either(y < _f32(-126.0), _f32(-126.0), y)
    n = _i32(y - _f32(0.5))  # towards 0: the nearest, since y is not positive
    f = y - _f32(n)
    p = _f32(1.5469731972e-4)
    p = p * f + _f32(1.3400432165e-3)
    p = p * f + _f32(9.6180256030e-3)
    p = p * f + _f32(5.5503272142e-2)
    p = p * f + _f32(2.4022651214e-1)
    p = p * f + _f32(6.9314720671e-1)
    p = p * f + _f32(1.0)
    result: float = either(x < _f32(-87.0), _f32(0.0), p * _two_to(n))
    return result
