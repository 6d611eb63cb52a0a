"""Warm-up: compiles or loads the kernels of this folder. Needs no torch.

The engine process loads them as it starts; `radixroute warm` does so before.
"""

from importlib import import_module

_KERNELS = ("attention_kernels", "product_kernels", "row_kernels")


def warm() -> None:
    for name in _KERNELS:
        import_module(f"{__package__}.{name}")
