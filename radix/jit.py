"""How a kernel function becomes machine code: compiled once on a machine, then loaded.

numba's cache does not notice an edit in a callee that lives in another file, so our cache folders
are named by a hash of every source that goes into a kernel (`jit_sources`); `jit_cache` says where
they lie. With no folder that is ours, each process compiles anew and says so once.
"""

import gc
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config

from radixroute.radix.jit_cache import cache_folder, candidates, compiling_alone, drop_unused
from radixroute.radix.jit_parts import LOOSE_SUMS, Helper, WholeCompiler
from radixroute.radix.jit_progress import progress
from radixroute.radix.jit_sources import source_hash

_log = logging.getLogger(__name__)
_Kernel = TypeVar("_Kernel", bound=Callable[..., object])
_njit: Any = numba.njit  # its stubs lack the options that are not for everybody
_config: Any = numba.core.config  # its settings are made at run time, unseen by type checkers
_BESIDE = Path(__file__).resolve().parent / "__pycache__"


def kernel(
    signature: object, *, makes_arrays: bool = False, reorders_sums: bool = False
) -> Callable[[_Kernel], _Kernel]:
    """Compile eagerly for one signature, through the cache where there is one.

    Eager, because read-only arrays (views of received bytes) would otherwise be a second type that
    compiles at the first request that has one. Without `makes_arrays` nothing counts references:
    those are atomic operations, and with them a store took four times as long. No closures, no
    comprehensions: `jit_compiler` leaves out what they need. With `reorders_sums` a loop that adds
    floats becomes vectors; NaN and infinities stay what they are.
    """
    loose = {"fastmath": LOOSE_SUMS, "error_model": "numpy"} if reorders_sums else {}

    def decorate(function: _Kernel) -> _Kernel:
        folder = _folder_of(function)
        before = _config.CACHE_DIR
        # numba asks for the folder while it decorates; others' kernels keep their own setting.
        _config.CACHE_DIR = str(folder) if folder else before
        try:
            options = {"nogil": True, "cache": folder is not None, "_nrt": makes_arrays, **loose}
            compile_now = _njit(
                signature, no_cfunc_wrapper=True, pipeline_class=WholeCompiler, **options
            )
            started = time.perf_counter()
            with compiling_alone(folder, function.__name__), _no_collections():
                compiled = compile_now(function)
        finally:
            _config.CACHE_DIR = before
        if folder is None or compiled.stats.cache_misses:
            progress.compiled(time.perf_counter() - started)
        if folder is not None and compiled.stats.cache_misses:
            drop_unused(folder.parent)
        return cast(_Kernel, compiled)

    return decorate


def entry_point(compiled: Callable[..., object]) -> Callable[..., Any]:
    """A kernel's machine code, for callers whose arguments always have the types of its signature.

    Nobody checks that they do: others call the kernel itself.
    """
    (overload,) = cast(Any, compiled).overloads.values()
    return cast(Callable[..., Any], overload.entry_point)


def helper(function: _Kernel) -> _Kernel:
    """A function that kernels call: compiled into each of them; Python runs it as Python.

    A call would pass each array as seven values: that was more than half of a store's time.
    """
    return cast(_Kernel, Helper(function, is_inlined=True))


def summing_helper(function: _Kernel) -> _Kernel:
    """The same for kernels with `reorders_sums`."""
    return cast(_Kernel, Helper(function, is_inlined=True, reorders_sums=True))


def rare_helper(function: _Kernel) -> _Kernel:
    """The same for what is seldom called or long: a call of its own keeps the kernels short."""
    return cast(_Kernel, Helper(function, is_inlined=False))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Nobody looks for garbage meanwhile.

    The compiler makes objects by the million, most of which stay: that took a tenth of its time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _folder_of(function: Callable[..., object]) -> Path | None:
    sources = source_hash(inspect.getfile(function), function.__module__)
    folder = cache_folder(candidates(_BESIDE, _config.CACHE_DIR), sources)
    if folder is None:
        _say_nothing_is_kept()
    return folder


@cache
def _say_nothing_is_kept() -> None:
    _log.warning(
        "no folder to keep compiled kernels in: this process compiles them itself, which takes"
        " about a minute; set NUMBA_CACHE_DIR to a folder that this user owns and only it can write"
    )
