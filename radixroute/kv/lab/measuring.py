"""Time, memory and growth, measured.

Owns the clock of the lab. Times are the least of several runs, as whatever else a machine does only
adds; memory is the tensors alive at once, counted by torch's own dispatch, and the process's RSS as
the kernel tells it. One thread of ours; torch uses its own.
"""

import math
import os
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")
_MEMORY = Path("/proc/self")


def least_seconds(run: Callable[[], object], repeats: int, enough_s: float = 0.5) -> float:
    """The fastest of up to `repeats` runs; no more once they took `enough_s` together."""
    least, spent = math.inf, 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        took = time.perf_counter() - began
        least, spent = min(least, took), spent + took
        if spent >= enough_s:
            break
    return least


def least_of_each(
    runs: Sequence[Callable[[], object]], repeats: int, enough_s: float = 0.5
) -> list[float]:
    """The fastest of each, taking turns: what the machine does meanwhile meets all of them. Each
    runs once before it counts."""
    for run in runs:
        run()
    least = [math.inf] * len(runs)
    began = time.perf_counter()
    for _ in range(repeats):
        least = [min(best, least_seconds(run, 1)) for best, run in zip(least, runs, strict=True)]
        if time.perf_counter() - began >= enough_s * len(runs):
            break
    return least


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """k of y = c x^k, fitted to all points: 0 is flat, 1 a line, 2 a parabola."""
    log_x, log_y = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_x, mean_y = sum(log_x) / len(xs), sum(log_y) / len(ys)
    over = sum((x - mean_x) * (y - mean_y) for x, y in zip(log_x, log_y, strict=True))
    return over / sum((x - mean_x) ** 2 for x in log_x)


def summed(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """Of values a token measured at some lengths: the sum over all tokens up to each length."""
    # Before the first length: along the line through the first two.
    rise = (ys[1] - ys[0]) / (xs[1] - xs[0])
    total, last_x, last_y, sums = 0.0, 0.0, max(0.0, ys[0] - rise * xs[0]), []
    for x, y in zip(xs, ys, strict=True):
        total += (x - last_x) * (y + last_y) / 2
        sums.append(total)
        last_x, last_y = x, y
    return sums


class TensorPeak(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch has no types here
    """The most bytes that tensors made inside the `with` held at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._seen: dict[int, Any] = {}
        self._before: set[int] = set()  # what was there before the run: weights, caches

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for one in _tensors(args):
            if (place := one.untyped_storage().data_ptr()) not in self._seen:
                self._before.add(place)
        out = func(*args, **(kwargs or {}))
        for one in _tensors(out if isinstance(out, tuple | list) else (out,)):
            self._count(one)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, n_bytes = storage.data_ptr(), storage.nbytes()
        if not n_bytes or key in self._seen or key in self._before:
            return
        self._now += n_bytes
        self.peak = max(self.peak, self._now)

        def gone(_: Any) -> None:
            if self._seen.pop(key, None) is not None:
                self._now -= n_bytes

        self._seen[key] = weakref.ref(storage, gone)


def _tensors(values: Any) -> list[torch.Tensor]:
    """Those among arguments, and in lists among them."""
    found = []
    for one in values:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, tuple | list):
            found += [each for each in one if isinstance(each, torch.Tensor)]
    return found


def tensor_peak(run: Callable[[], object]) -> int:
    """Bytes of the tensors that a run makes, at their peak."""
    with TensorPeak() as meter:
        run()
    peak: int = meter.peak
    return peak


def rss_peak(run: Callable[[], T]) -> tuple[T, int | None]:
    """What a run gives, and by how many bytes the process grew at most meanwhile. None: the kernel
    does not say (it resets its peak only where /proc may be written)."""
    try:
        (_MEMORY / "clear_refs").write_text("5")
        before = _status("VmRSS")
    except OSError:
        return run(), None
    result = run()
    return result, max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    for line in (_MEMORY / "status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_name() -> str:
    """The processor, its threads in use and the machine's memory, in words."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = names[0] if names else "a CPU"
    return f"{name}, {torch.get_num_threads()} threads, {gib:.0f} GiB"
