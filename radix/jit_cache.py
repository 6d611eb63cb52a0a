"""Folders in which compiled kernels are kept, one for each hash of sources.

Their files are loaded as code: only a folder that belongs to us is used, never a shared temporary
one. Folders of sources that are no more go once there are many and nobody has used them for days.
Also the lock in such a folder: processes that start together do not compile the same thing, whoever
comes second waits and then loads. Called by `jit`.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "kernels-"
_KEPT = 64  # folders: a dozen files of kernels, of five versions; each a few MB
_UNUSED_S = 3 * 24 * 3600.0


def cache_folder(candidates: list[Path], name: str) -> Path | None:
    """The first candidate that can be ours, made; None when there is none."""
    for base in candidates:
        folder = base / f"{_PREFIX}{name}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(folder):
                os.utime(folder)  # says that it is in use
                return folder
        except OSError:
            continue
    return None


def candidates(beside: Path, numba_cache: str) -> list[Path]:
    """Where folders may lie: in `numba_cache` if it is set, else `beside` or the user's cache."""
    if numba_cache:
        return [Path(numba_cache) / "radixroute"]
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:  # a user without a home: a container's number that no passwd file knows
        return [beside]
    return [beside, user / "radixroute"]


def drop_unused(base: Path) -> None:
    """Remove what was used longest ago, once there is too much.

    A process that still had such a folder compiles in memory what it has not loaded: numba keeps
    what it read, and makes the folder again before it writes.
    """
    try:
        folders = [path for path in base.glob(f"{_PREFIX}*") if _is_ours(path)]
        used = sorted(((path.stat().st_mtime, path) for path in folders), reverse=True)
    except OSError:  # another process removes them too
        return
    for used_at, folder in used[_KEPT:]:
        if used_at < time.time() - _UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def compiling_alone(folder: Path | None, name: str) -> Iterator[None]:
    """Nobody else compiles `name` into this folder meanwhile; without a folder everybody does.

    The lock is the kernel's own (flock): it goes with the process that held it.
    """
    if folder is None:
        yield
        return
    try:
        file = (folder / f"{name}.lock").open("w")
    except OSError:  # removed meanwhile, or the disk is full: compiling twice is no harm
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_ours(folder: Path) -> bool:
    status = folder.stat()
    writable_by_others = status.st_mode & 0o022
    return status.st_uid == os.geteuid() and not writable_by_others and os.access(folder, os.W_OK)
