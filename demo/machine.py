"""Facts about the machine a measurement ran on: without them a number says nothing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "ray", "grpcio", "pyzmq", "numpy", "numba", "tokenizers", "transformers")


def machine() -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bf16": sorted({"amx_bf16", "avx512_bf16"} & cpu_flags()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions(model: str) -> dict[str, str]:
    found = {"radixroute": version("radixroute"), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "model": model}


def load_average() -> float:
    """Runnable tasks, mean over the last minute."""
    return round(os.getloadavg()[0], 2)


def cpu_flags() -> set[str]:
    return set(_cpu_line("flags").split()) | set(_cpu_line("Features").split())


def _cpu_model() -> str:
    return _cpu_line("model name") or platform.processor() or platform.machine()


def _cpu_line(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, "")
