"""I own where compiled kernels are cached, and how a kernel function becomes machine code.

numba's cache does not notice an edit in a callee that lives in another file, so our cache folder
is named by a hash of every kernel source and of the numba version. Its files are loaded as code:
only a folder that belongs to us is used, never a shared temporary one; with none, each process
compiles anew and says so once. The one file of the room that touches the disk or a log.
"""

import hashlib
import inspect
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config

_log = logging.getLogger(__name__)
_Kernel = TypeVar("_Kernel", bound=Callable[..., object])
_njit: Any = numba.njit  # its stubs lack the options that are not for everybody
_config: Any = numba.core.config  # its settings are made at run time, unseen by type checkers

# Every file with code that numba compiles: add yours here.
KERNEL_SOURCES = (
    "jit.py",
    "kernels.py",
    "eviction.py",
    "layout.py",
    "prefetch.py",
    "arena.py",
    "table.py",
    "entries.py",
    "changes.py",
    "updates.py",
    "index_kernels.py",
    "matching.py",
)
_HERE = Path(__file__).resolve().parent


def kernel(signature: str, *, makes_arrays: bool = False) -> Callable[[_Kernel], _Kernel]:
    """Compile eagerly for one signature, through the cache where there is one.

    Eager, because read-only arrays (views of received bytes) would otherwise be a second type that
    compiles at the first request that has one. Without `makes_arrays` nothing counts references:
    those are atomic operations, and with them a store took four times as long.
    """

    def decorate(function: _Kernel) -> _Kernel:
        folder = cache_folder(_candidates(), Path(inspect.getfile(function)))
        if folder is None:
            _say_nothing_is_kept()
        before = _config.CACHE_DIR
        # numba asks for the folder while it decorates; others' kernels keep their own setting.
        _config.CACHE_DIR = str(folder) if folder else before
        try:
            compile_now = _njit(signature, nogil=True, cache=folder is not None, _nrt=makes_arrays)
            return cast(_Kernel, compile_now(function))
        finally:
            _config.CACHE_DIR = before

    return decorate


def helper(function: _Kernel) -> _Kernel:
    """A function that kernels call: compiled into each of them, never called from Python.

    A call would pass each array as seven values: that was more than half of a store's time.
    """
    return cast(_Kernel, _njit(_nrt=False, forceinline=True)(function))


def rare_helper(function: _Kernel) -> _Kernel:
    """The same for what is seldom called or long: a call of its own keeps the kernels short."""
    return cast(_Kernel, _njit(_nrt=False)(function))


def cache_folder(candidates: list[Path], source: Path = _HERE) -> Path | None:
    """The first candidate that can be ours, made; None when there is none.

    `source` is the kernel's file. In another room it counts beside this one's sources, with those
    files of its room that import this module or end in `_layout.py`.
    """
    for base in candidates:
        folder = base / f"kernels-{source_hash(_HERE, source)}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if _is_ours(folder):
            return folder
    return None


def source_hash(folder: Path, source: Path | None = None) -> str:
    """16 hex digits over the numba version and the bytes of every kernel source in `folder`.

    And over `source`, if that is a file elsewhere.
    """
    state = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    paths = [folder / name for name in KERNEL_SOURCES]
    if source is not None and source.is_file() and source.resolve() not in paths:
        paths += _kernel_files(source)
    for path in paths:
        state.update(hashlib.blake2b(path.read_bytes()).digest())
    return state.hexdigest()


def _kernel_files(source: Path) -> list[Path]:
    beside = sorted(source.parent.glob("*.py"))
    names_us = b"radixroute.radix.jit"
    return [
        path
        for path in beside
        if path == source or path.name.endswith("_layout.py") or names_us in path.read_bytes()
    ]


def _candidates() -> list[Path]:
    if _config.CACHE_DIR:
        return [Path(_config.CACHE_DIR) / "radixroute"]
    beside = _HERE / "__pycache__"
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:  # a user without a home: a container's number that no passwd file knows
        return [beside]
    return [beside, user / "radixroute"]


@cache
def _say_nothing_is_kept() -> None:
    _log.warning(
        "no folder to keep compiled kernels in: this process compiles them itself, which takes"
        " half a minute; set NUMBA_CACHE_DIR to a folder that this user owns and only it can write"
    )


def _is_ours(folder: Path) -> bool:
    status = folder.stat()
    writable_by_others = status.st_mode & 0o022
    return status.st_uid == os.geteuid() and not writable_by_others and os.access(folder, os.W_OK)
