"""Lock around a compilation, so that processes that start together do not compile the same thing.

Whoever comes second waits and then loads what the first one kept. The lock is the kernel's own
(flock): it goes with the process that held it. Called by `jit`.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def compiling_alone(folder: Path | None, name: str) -> Iterator[None]:
    """Nobody else compiles `name` into this folder meanwhile; without a folder everybody does."""
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
