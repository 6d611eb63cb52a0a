"""Marks: hashes of some runs of a prompt's tokens, wherever they stand.

A block key names all that is before it, so keys do not show that two prompts share a text behind
different beginnings. Of each `WINDOW` runs of `RUN` tokens that begin one after another the one
with the least hash is kept ("winnowing", Schleimer, Wilkerson and Aiken, 2003): about one in 64. So
a text of `WINDOW + RUN - 1` tokens has a mark, and whoever shares it shares that mark, however
often the text repeats itself; a shorter prompt has one, too. Without the seed a mark says nothing
about its tokens. A collision costs a wrong share. Pure functions; numba is imported at first use.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.errors import BrokenKernel, LocalMisuse
from radixroute.radix.ids import Tokens

RUN: Final = 16  # tokens: markup between turns is shorter
WINDOW: Final = 127  # runs; of them two in 128 are kept where no token comes twice

_GOLDEN_TOKENS: Final = (np.arange(4000, dtype=np.uint32) * np.uint32(2654435)) % np.uint32(50_000)
_GOLDEN_SEED: Final = np.uint64(0x9E3779B97F4A7C15)
_GOLDEN: Final = (63, 16643805780295)


def marks_of(tokens: Tokens, seed: np.uint64) -> NDArray[np.uint64]:
    """Of a prompt, in the order of its tokens: where a run begins in the upper 32 bits, its hash in
    the lower. O(tokens), as long as nobody chooses them who knows the seed."""
    if tokens.dtype != np.uint32 or tokens.ndim != 1:
        raise LocalMisuse(f"tokens are uint32 of one dimension, not {tokens.dtype}{tokens.shape}")
    marks: NDArray[np.uint64] = _kernel()(np.ascontiguousarray(tokens), RUN, WINDOW, seed)
    return marks


def warm() -> None:
    """Compile or load the kernel and prove that it hashes as written. Raises `BrokenKernel`."""
    got = marks_of(_GOLDEN_TOKENS, _GOLDEN_SEED)
    if (len(got), int(got[-1])) != _GOLDEN:
        raise BrokenKernel(f"marks of the golden tokens are {len(got)}, {got[-1]}, not {_GOLDEN}")


@cache
def _kernel() -> Callable[..., NDArray[np.uint64]]:
    from radixroute.radix.jit import entry_point  # here: numba takes 0.5 s to import
    from radixroute.radix.keys.mark_kernels import mark

    return entry_point(mark)
