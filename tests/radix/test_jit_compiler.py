"""numba's compiler as kernels use it: what is left out costs nothing else."""

import gc
from collections import Counter

import numba
import numpy as np
import pytest
from numba.core import types
from numba.core.registry import cpu_target

from radixroute.radix import jit, jit_compiler


@pytest.fixture(autouse=True)
def _compiles_each_time(monkeypatch):
    monkeypatch.setattr(jit, "candidates", lambda *_: [])


def test_what_an_operator_gives_is_sought_once_and_not_wherever_it_stands(monkeypatch):
    sought: Counter[object] = Counter()
    seek = types.Function.get_call_type

    def counted(self, context, args, kws):
        sought[self.typing_key, args] += 1
        return seek(self, context, args, kws)

    monkeypatch.setattr(types.Function, "get_call_type", counted)

    @jit.kernel("uint64(uint64, uint64)")
    def mixed(x: np.uint64, y: np.uint64) -> np.uint64:
        x ^= y
        y ^= x
        x ^= y
        return x ^ y

    assert mixed(np.uint64(6), np.uint64(3)) == 5
    assert max(sought.values(), default=0) <= 1, sought.most_common(3)


def test_others_who_use_numba_get_what_it_is():
    before = type(cpu_target.typing_context), type(cpu_target.target_context)

    @jit.kernel("int64(int64)")
    def twice(x: int) -> int:
        return x + x

    @numba.njit
    def three_times(x):  # a closure, and an operator that a kernel has met
        def more(y):
            return y + x

        return more(x + x)

    assert (twice(4), three_times(4)) == (8, 12)
    assert (type(cpu_target.typing_context), type(cpu_target.target_context)) == before
    known = cpu_target.typing_context.resolve_value_type(max)
    assert not isinstance(known, jit_compiler.RememberingFunction)


def test_what_is_remembered_of_kernels_that_make_arrays_serves_no_others():
    """The same call is compiled to count references in one, and not in the other."""

    @jit.kernel("int64[::1](int64)", makes_arrays=True)
    def filled(n: int) -> np.ndarray:
        made = np.empty(n, np.int64)
        for i in range(n):
            made[i] = max(i, 2)
        return made

    @jit.kernel("int64(int64)")
    def at_least_two(n: int) -> int:
        return max(n, 2)

    assert filled(4).tolist() == [2, 2, 2, 3]
    assert (at_least_two(1), at_least_two(5)) == (2, 5)


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_is_looked_for_again_after_a_kernel_or_still_not(is_on):
    rounds = []
    gc.collect()
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    gc.callbacks.append(lambda phase, info: rounds.append(phase))
    try:
        with jit._no_collections():
            rounds.clear()
            kept = [[i] for i in range(10_000)]
            assert rounds == []
        assert gc.isenabled() is is_on
        kept = [[i] for i in range(10_000)]
        assert len(kept) == 10_000
        assert bool(rounds) is is_on
    finally:
        gc.callbacks.pop()
        (gc.enable if was_on else gc.disable)()
