"""Products of bfloat16 pairs, where the processor has them (AVX-512 BF16).

One instruction multiplies 32 pairs of numbers and adds two of each to 16 sums in float32: a third
of the instructions that widening takes. numba has no name for it, so this is LLVM's, written the
way numba's own are. Called by `product_kernels`; leans on numba's insides.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_types: Any = types
_cgutils: Any = cgutils
_intrinsic: Any = intrinsic

ROWS = 4  # that share one reading of a weight
WIDE = 32  # numbers that one instruction takes of each side
STEP = 2 * WIDE  # a round of the loop: a sum is not needed again before it is there


class _BFloat(ir.Type):  # type: ignore[misc] # llvmlite has no types to check against
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_I16, _I64, _F32 = ir.IntType(16), ir.IntType(64), ir.FloatType()
_WORDS = ir.VectorType(_I16, WIDE)
_PAIRS = ir.VectorType(_BFloat(), WIDE)
_SUMS = ir.VectorType(_F32, WIDE // 2)
_DOT = "llvm.x86.avx512bf16.dpbf16ps.512"
_ADD = "llvm.vector.reduce.fadd.v16f32"

HAS_PAIRS = bool(binding.get_host_cpu_features().get("avx512bf16", False))


def _pair_sums(
    _typing: Any, weight: Any, _at: Any, rows: Any, _first: Any, _stride: Any, _n: Any, sums: Any,
    _to: Any,
) -> Any:  # fmt: skip
    signature = _types.void(
        weight, _types.int64, rows, _types.int64, _types.int64, _types.int64, sums, _types.int64
    )

    def build(context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        weight, at, rows, first, stride, n, sums, to = given
        dot = _cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_SUMS, [_SUMS, _PAIRS, _PAIRS]), _DOT
        )
        add = _cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_F32, [_F32, _SUMS]), _ADD
        )
        zero = ir.Constant(_SUMS, [0.0] * (WIDE // 2))
        totals = [
            [_cgutils.alloca_once_value(builder, zero) for _ in range(STEP // WIDE)]
            for _ in range(ROWS)
        ]
        places = [builder.mul(stride, ir.Constant(_I64, r)) for r in range(ROWS)]
        start, step = ir.Constant(_I64, 0), ir.Constant(_I64, STEP)

        def pairs(pointer: Any, *offsets: Any) -> Any:
            index = offsets[0]
            for offset in offsets[1:]:
                index = builder.add(index, offset)
            place = builder.bitcast(builder.gep(pointer, [index]), _WORDS.as_pointer())
            return builder.bitcast(builder.load(place, align=2), _PAIRS)

        with _cgutils.for_range_slice(builder, start, n, step, _I64, inc=True) as (i, _):
            for half in range(STEP // WIDE):
                further = ir.Constant(_I64, half * WIDE)
                w = pairs(weight, at, i, further)
                for place, of_row in zip(places, totals, strict=True):
                    row = pairs(rows, first, place, i, further)
                    more = builder.call(dot, [builder.load(of_row[half]), w, row])
                    builder.store(more, of_row[half])
        for r, of_row in enumerate(totals):
            whole = builder.fadd(*(builder.load(one) for one in of_row))
            value = builder.call(add, [ir.Constant(_F32, 0.0), whole])
            value.fastmath.add("reassoc")
            builder.store(value, builder.gep(sums, [builder.add(to, ir.Constant(_I64, r))]))
        return context.get_dummy_value()

    return signature, build


# `pair_sums(weight, at, rows, first, stride, n, sums, to)`: products of the `n` numbers of `weight`
# from `at` on with as many of each of `ROWS` rows, which lie `stride` apart from `first` on; their
# sums into `sums` from `to` on. `n` is a multiple of `STEP`. Weight and rows are bfloat16.
pair_sums: Any = _intrinsic(_pair_sums)
