"""Warm-up: compiles or loads the kernels that run in the router's loop, and the shadows' own."""

from importlib import import_module

_KERNELS = (
    "insight.misses.kernels",
    "insight.shadow.node_kernels",
    "replay.analysis.misses_kernels",
)


def warm() -> None:
    for name in _KERNELS:
        import_module(f"radixroute.{name}")
