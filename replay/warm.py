"""Warm-up: compiles or loads every kernel of the room. `radixroute warm` calls it."""

from importlib import import_module

_KERNELS = (
    "fleet.kernels",
    "traces.kernels",
    "analysis.bounds_kernels",
    "analysis.misses_kernels",
    "analysis.detectors.kernels",
)


def warm() -> None:
    for name in _KERNELS:
        import_module(f"radixroute.replay.{name}")
