"""Progress of compilation: who is told that this process compiles, kernel by kernel.

Owns the one listener of the process and the count; free of numba, so that a command line can listen
before anything heavy is imported. Without a listener one line in the log says that it happens.
Called by `jit`; set by whoever talks to a person.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


class CompileProgress:
    """Kernels that this process compiled; what came from the cache does not count."""

    def __init__(self) -> None:
        self.n_compiled = 0
        self.seconds = 0.0
        self._listener: Callable[[int, float], None] | None = None

    def compiled(self, seconds: float) -> None:
        """One more, which took so long."""
        self.n_compiled += 1
        self.seconds += seconds
        if self._listener is not None:
            self._listener(self.n_compiled, self.seconds)
        elif self.n_compiled == 1:
            _log.info("compiling kernels for this machine, once: later starts load them")

    @contextmanager
    def told_to(self, listener: Callable[[int, float], None]) -> Iterator[None]:
        """`listener(kernels so far, their seconds)` after each, while this lasts."""
        before, self._listener = self._listener, listener
        try:
            yield
        finally:
            self._listener = before


progress = CompileProgress()
