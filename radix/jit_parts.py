"""Helpers compiled as parts of kernels: as far as LLVM's code, which is optimised in the kernel.

numba makes a whole library of every function: wrappers to call it from Python, all optimisations,
machine code. Of a helper, which is only ever linked into kernels and optimised there again, none of
that is used; it was six tenths of a cold compile. Called by `jit`; leans on numba's insides.
What is left is numba's own work, in Python, on some two hundred functions (`jit_compiler`).
"""

from typing import Any

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import IRLegalization

from radixroute.radix.jit_compiler import KernelCompiler

# numba has no types to check against.
_Library: Any = JITCodeLibrary
_Compiler: Any = KernelCompiler
_Integer: Any = types.Integer
_register: Any = register_pass
_unliteral: Any = types.unliteral
_Pass: Any = AnalysisPass
_Dispatcher: Any = CPUDispatcher

_OPTIONS = {"nopython": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# What sums need to become vectors, and no more: without "nnan" a NaN is still found.
LOOSE_SUMS = {"reassoc", "contract", "arcp", "nsz"}


class Helper(_Dispatcher):  # type: ignore[misc]
    """A function for kernels to call. From Python it runs as Python."""

    def __init__(self, function: Any, *, is_inlined: bool, reorders_sums: bool = False) -> None:
        options: dict[str, object] = {**_OPTIONS, "forceinline": is_inlined}
        if reorders_sums:
            # With Python's errors each division is a branch.
            options |= {"fastmath": LOOSE_SUMS, "error_model": "numpy"}
        super().__init__(py_func=function, targetoptions=options, pipeline_class=PartCompiler)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.py_func(*args, **kwargs)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """One version for all integers with a sign: a literal 0 is a type of its own to numba."""
        plain = tuple(_plain(given) for given in args)
        return super().get_call_template(plain, {name: _plain(kws[name]) for name in kws})


def _plain(given: Any) -> Any:
    plain = _unliteral(given)
    is_signed = isinstance(plain, _Integer) and plain.signed
    return types.int64 if is_signed else plain


class Part(_Library):  # type: ignore[misc]
    """A helper's code: linked with nothing, never run."""

    _linking_libraries: list[Any]

    def _optimize_functions(self, module: Any) -> None:
        """Lightly: the kernel does the rest, and is linked from less."""
        module.data_layout = self._codegen._data_layout
        manager, builder = self._codegen._function_pass_manager(opt=1)
        for function in module.functions:
            if not function.is_declaration:
                manager.run(function, builder)

    @property
    def codegen(self) -> Any:
        return _NoEngine(self._codegen)

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None: there is no wrapper to call it from Python."""
        return 0


class _NoEngine:
    """numba's code generator, for a library in nobody's memory: nothing is to be set there."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        pass


class Whole(_Library):  # type: ignore[misc]
    """A kernel's code: linked with all its parts and theirs, then optimised, all at once."""

    _linking_libraries: list[Any]

    def _optimize_functions(self, module: Any) -> None:
        """All at once, later."""
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._linking_libraries = _with_their_parts(self._linking_libraries)
        super().finalize()

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            # Nobody else calls it: what its callers pass is known, and one call of it is inlined.
            if not function.is_declaration and function.linkage.name == "linkonce_odr":
                function.linkage = "internal"
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)


def _with_their_parts(libraries: list[Any]) -> list[Any]:
    found: dict[Any, None] = {}
    waiting = libraries[::-1]
    while waiting:
        library = waiting.pop()
        if library not in found:
            found[library] = None
            if isinstance(library, Part):
                waiting += library._linking_libraries[::-1]
    return list(found)


class _WithLibrary(_Compiler):  # type: ignore[misc]
    """The compiler with a pass that says whose code this is before it is made."""

    sets_library: Any

    def define_pipelines(self) -> list[Any]:
        pipelines: list[Any] = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.add_pass_after(self.sets_library, IRLegalization)
            pipeline.finalize()
        return pipelines


class _SetLibrary(_Pass):  # type: ignore[misc]
    library: Any

    def __init__(self) -> None:
        _Pass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


@_register(mutates_CFG=False, analysis_only=True)
class _AsPart(_SetLibrary):
    _name, library = "as_part", Part


@_register(mutates_CFG=False, analysis_only=True)
class _AsWhole(_SetLibrary):
    _name, library = "as_whole", Whole


class PartCompiler(_WithLibrary):
    """Compiles a helper."""

    sets_library = _AsPart


class WholeCompiler(_WithLibrary):
    """Compiles a kernel."""

    sets_library = _AsWhole
