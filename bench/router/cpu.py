"""CPU time and memory of a process and all below it, read from the kernel."""

import time
from pathlib import Path

from radixroute.deploy.process_tree import descendants

_PAGE_KB = 4


def tree(pid: int) -> tuple[int, ...]:
    """Whoever lives of it now."""
    return (pid, *sorted(one.pid for one in descendants(pid)))


def cpu_ns(pids: tuple[int, ...]) -> int:
    """Of all their threads, ended ones too. /proc/PID/stat counts the same in steps of 10 ms."""
    return sum(time.clock_gettime_ns(_clock_of(pid)) for pid in pids)


def resident_mb(pids: tuple[int, ...]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * _PAGE_KB / 1024


def _clock_of(pid: int) -> int:
    """As clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
