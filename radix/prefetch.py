"""Asks the processor for a cache line before it is needed; nothing else changes.

numba has no such function, so this is one LLVM instruction, written the way numba's own are. A
probe of a large table waits for memory most of its time: several asked for at once wait together.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1  # arguments of llvm.prefetch: for reading, into all caches, data


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(array, types.CPointer):
            data = arguments[0]
        else:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]])
        byte = ir.PointerType(ir.IntType(8))
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        insert: Any = cgutils.get_or_insert_function
        function = insert(builder.module, kind, "llvm.prefetch.p0i8")
        numbers = [ir.Constant(number, value) for value in (_READ, _KEEP, _DATA)]
        builder.call(function, [builder.bitcast(address, byte), *numbers])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


# `prefetch(array, index)`: the line of `array[index]`; the index must be within the array. Or of a
# pointer to numbers.
prefetch: Any = intrinsic(_prefetch)
