"""What kernels cost a new machine: `python -m bench.compile` (`make bench-compile`).

__main__.py    cold compile and warm load, of this checkout and beside another one
"""
