"""Process tree: processes and what is below them, read from /proc and never mistaken.

A pid alone names whoever has the number now; with the start time it names one process for good.
Linux only, like the rest of this package.
"""

import os
import signal
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process: its number and when it began, in clock ticks since boot."""

    pid: int
    started_ticks: int

    @property
    def is_alive(self) -> bool:
        found = _stat(self.pid)
        return found is not None and found.started_ticks == self.started_ticks and not found.is_dead

    def send(self, number: signal.Signals) -> None:
        """Signals it if it still runs."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now."""
    found = _stat(pid)
    return None if found is None or found.is_dead else ProcessId(pid, found.started_ticks)


def descendants(pid: int) -> set[ProcessId]:
    """Every live process below `pid`, at any depth."""
    children: dict[int, list[tuple[int, _Stat]]] = {}
    for child_pid, found in _all():
        children.setdefault(found.parent_pid, []).append((child_pid, found))
    below: set[ProcessId] = set()
    open_pids = [pid]
    while open_pids:
        for child_pid, found in children.get(open_pids.pop(), []):
            open_pids.append(child_pid)
            if not found.is_dead:
                below.add(ProcessId(child_pid, found.started_ticks))
    return below


def children_named(pid: int, names: Container[str]) -> set[ProcessId]:
    """The live direct children of `pid` whose program has one of these names."""
    return {
        ProcessId(child_pid, found.started_ticks)
        for child_pid, found in _all()
        if found.parent_pid == pid and found.name in names and not found.is_dead
    }


def with_variable(name: str, value: str) -> set[ProcessId]:
    """Every live process of ours that has this in its environment; whatever its parents are."""
    entry = f"{name}={value}".encode()
    found = set()
    for pid, stat in _all():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # another's, or gone
        if not stat.is_dead and entry in environment.split(b"\0"):
            found.add(ProcessId(pid, stat.started_ticks))
    return found


def await_gone(processes: Iterable[ProcessId], timeout_s: float) -> set[ProcessId]:
    """Waits until all are gone; returns those that are not when the time is up."""
    give_up_s = time.monotonic() + timeout_s
    alive = {process for process in processes if process.is_alive}
    while alive and time.monotonic() < give_up_s:
        time.sleep(POLL_S)
        alive = {process for process in alive if process.is_alive}
    return alive


@dataclass(frozen=True, slots=True)
class _Stat:
    name: str  # the program's, cut to 15 characters by the kernel
    parent_pid: int
    started_ticks: int
    is_dead: bool


def _all() -> Iterator[tuple[int, _Stat]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))) is not None:
            yield int(entry.name), found


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name is in brackets and may hold anything, so fields count from the last bracket:
    # state is field 3, parent field 4, start time field 22.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return _Stat(head.partition("(")[2], int(fields[1]), int(fields[19]), fields[0] in "ZX")
