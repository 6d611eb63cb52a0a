"""Sources that go into a kernel: found by its imports, and named by one hash.

numba's cache looks at the kernel's own file only: an edit in a callee or a constant of another
file would be served stale. What a kernel's file imports from its own package and from ours, and
what those files import, is all that can be compiled into it: found by reading the `import`
statements, wherever the files lie. Only names that an `import` statement brings count.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

_OURS = __name__.partition(".")[0]
_COMPILERS = tuple(f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy"))


@cache
def source_hash(path: str, module: str) -> str:
    """16 hex digits over the bytes of all that the module at `path` imports, and the compiler.

    Once for each file in a process. Which processor compiles is in the names of numba's own files.
    """
    state = hashlib.blake2b(repr(_COMPILERS).encode(), digest_size=8)
    for name, digest in sorted(sources(path, module)):
        state.update(name.encode() + digest)
    return state.hexdigest()


def sources(path: str, module: str) -> Iterable[tuple[str, bytes]]:
    """Every module whose code or constants may be in the kernels of this one, and its digest."""
    packages = (_OURS, module.partition(".")[0])
    digests: dict[str, bytes] = {}
    waiting = [(module, path)]
    while waiting:
        name, file = waiting.pop()
        if name in digests:
            continue
        digests[name], imported = _read(file, name)
        for found in imported:
            if found.partition(".")[0] in packages and found not in digests:
                waiting += [(found, origin) for origin in file_of(found)]
    return digests.items()


@cache
def _read(path: str, module: str) -> tuple[bytes, tuple[str, ...]]:
    """The digest of a file, and the names that it imports: some are functions, not modules."""
    content = Path(path).read_bytes()
    is_package = Path(path).stem == "__init__"
    package = module if is_package else module.rpartition(".")[0]
    names = tuple(dict.fromkeys(_imported(ast.parse(content), package)))
    return hashlib.blake2b(content).digest(), names


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """At every depth, but not what is in them: most nodes of a tree are expressions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, ())
        yield node


@cache
def file_of(name: str) -> tuple[str, ...]:
    """The module's file; none where the name is no module, or one without a source."""
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # its parent is a module, or has no spec
        return ()
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ()
    return (spec.origin,)
