"""What the demo shows while it runs: a live line on a terminal, plain lines elsewhere.

Everything goes to standard output in order; nothing is shown that did not happen.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Watch = Callable[[int, int, int], None]  # requests done, in flight, failed
PLAIN_EVERY_S = 10.0


class Screen(Protocol):
    """Where progress goes."""

    def say(self, line: str) -> None: ...

    def stream(self, text: str) -> None: ...

    def progress(self, label: str, total: int) -> AbstractContextManager[Watch]: ...


class TerminalScreen:
    """Standard output through rich; falls back to plain lines when it is not a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._began_s = time.monotonic()

    def say(self, line: str) -> None:
        elapsed = time.monotonic() - self._began_s
        self.console.print(f"[{elapsed:5.0f} s] {line}", markup=False, soft_wrap=True)
        sys.stdout.flush()

    def stream(self, text: str) -> None:
        self.console.print(text, end="", markup=False, soft_wrap=True)
        sys.stdout.flush()

    def progress(self, label: str, total: int) -> AbstractContextManager[Watch]:
        return self._live(label, total) if self.console.is_terminal else self._plain(label, total)

    @contextmanager
    def _live(self, label: str, total: int) -> Iterator[Watch]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(label, total=total, state="")

            def watch(done: int, in_flight: int, failed: int) -> None:
                state = f"{in_flight} in flight" + (f", {failed} FAILED" if failed else "")
                progress.update(bar, completed=done, state=state)

            yield watch

    @contextmanager
    def _plain(self, label: str, total: int) -> Iterator[Watch]:
        next_s = time.monotonic() + PLAIN_EVERY_S

        def watch(done: int, in_flight: int, failed: int) -> None:
            nonlocal next_s
            if time.monotonic() < next_s and done < total:
                return
            next_s = time.monotonic() + PLAIN_EVERY_S
            self.say(f"{label}: {done}/{total} answered, {in_flight} in flight, {failed} failed")

        yield watch
