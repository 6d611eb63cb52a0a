"""numba's compiler with what kernels need of it, and no more.

What numba does is right for any Python and most of its time: it is Python itself. Kernels have no
closures, no whole-array expressions and nothing that is inlined before LLVM sees it, so the passes
that look for such things are left out; what an operator gives for the types of its operands is
looked up once, not at each place where it stands. Called by `jit_parts`; with it the only file that
leans on numba's insides.
"""

import copy
from functools import cache
from typing import Any

from numba.core import compiler, typed_passes, types, untyped_passes
from numba.extending import models, register_model

# numba has no types to check against.
_Compiler: Any = compiler.Compiler
_Flags: Any = compiler.Flags
_Function: Any = types.Function
_Dispatcher: Any = types.Dispatcher
_models: Any = models
_register_model: Any = register_model

_UNNEEDED = {
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,  # LLVM does that
    untyped_passes.InlineInlinables,
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
}


class FastFlags(_Flags):  # type: ignore[misc]
    """numba compares every option, set or not, each time it looks up what an operator does."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FastFlags) and bool(self._values == other._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values))


class KernelCompiler(_Compiler):  # type: ignore[misc]
    """numba's compiler without the passes that find nothing in kernels."""

    def __init__(self, typing_context: Any, *given: Any) -> None:
        super().__init__(typing_context, *given)
        self.state.flags = FastFlags(self.state.flags)
        self.state.typingctx = _remembering(typing_context, self.state.flags.copy())
        target = self.state.targetctx  # a copy, for this function
        target.typing_context = self.state.typingctx
        kind: Any = type(target)
        target.__class__ = _contented(kind)

    def define_pipelines(self) -> list[Any]:
        pipelines: list[Any] = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [known for known in pipeline.passes if known[0] not in _UNNEEDED]
            pipeline.finalize()
        return pipelines


class _Contented:
    """Part of a target context: does not look for new declarations of what numba names by a string.

    Those are its own, asked for at each index: has an array a cheaper way to be read there?
    """

    def get_function(self, function: Any, signature: Any, _firstcall: bool = True) -> Any:
        is_open = _firstcall and not isinstance(function, str)
        return super().get_function(function, signature, is_open)  # type: ignore[misc]


@cache
def _contented(kind: Any) -> Any:
    return type("ContentedContext", (_Contented, kind), {})


class _Remembering:
    """Part of a typing context: what was found once is not sought again.

    For one set of flags, since what numba makes of an operator may depend on them. What was not
    found is not kept.
    """

    functions: dict[int, Any]  # by the id of what numba itself knows
    signatures: dict[Any, tuple[Any, Any]]  # of helpers

    def resolve_value_type(self, value: Any) -> Any:
        plain = super().resolve_value_type(value)  # type: ignore[misc]
        if type(plain) is not _Function:
            return plain
        found = self.functions.get(id(plain))
        if found is None:
            found = self.functions[id(plain)] = RememberingFunction(plain, self)
        return found

    def resolve_function_type(self, function: Any, args: Any, kws: Any) -> Any:
        if kws or type(function) is not _Dispatcher:
            return super().resolve_function_type(function, args, kws)  # type: ignore[misc]
        key = id(function), *[given._code for given in args]
        found = self.signatures.get(key)
        if found is None:
            signature = super().resolve_function_type(function, args, kws)  # type: ignore[misc]
            if signature is None:
                return None
            # With the function itself, so that no other gets its id.
            found = self.signatures[key] = function, signature
        return found[1]


class RememberingFunction(_Function):  # type: ignore[misc]
    """An operator or function of numba's, in one context.

    numba asks its dozens of rules anew, some three times, at every place where an operator stands.
    """

    def __init__(self, plain: Any, context: Any) -> None:
        self._plain = plain  # kept: `_Remembering` knows it by its id
        self._context = context
        self._signatures: dict[tuple[int, ...], Any] = {}
        super().__init__(plain.templates)

    @property
    def key(self) -> Any:
        return *super().key, id(self._context)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        if kws or context is not self._context:
            return super().get_call_type(context, args, kws)
        # numba makes each type once, with a number, and compares them slowly.
        numbers = tuple([given._code for given in args])
        found = self._signatures.get(numbers)
        if found is None:
            found = self._signatures[numbers] = super().get_call_type(context, args, kws)
        return found


# As numba's own functions: nothing of it is there at run time.
_register_model(RememberingFunction)(_models.OpaqueModel)


@cache
def _remembering(context: Any, _flags: Any) -> Any:
    """A context that shares all that this one knows, and remembers what it found for such flags."""
    made = copy.copy(context)
    made.__class__ = type("RememberingContext", (_Remembering, type(context)), {})
    made.functions, made.signatures = {}, {}
    return made
