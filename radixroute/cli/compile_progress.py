"""Progress while kernels compile: the first time on a machine a command may take a minute.

Lines on stderr, the first one with the first kernel, then one every few seconds.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from radixroute.cli.console import tell
from radixroute.radix.jit_progress import progress

EVERY_S = 5.0


@contextmanager
def compilation_shown() -> Iterator[None]:
    """While a command runs; nothing is shown where all kernels are loaded."""
    told_s = 0.0

    def show(n_compiled: int, seconds: float) -> None:
        nonlocal told_s
        if n_compiled == 1:
            tell("compiling kernels for this machine: about a minute, once")
        elif seconds - told_s >= EVERY_S:
            tell(f"  {n_compiled} kernels compiled")
            told_s = seconds

    with progress.told_to(show):
        yield
