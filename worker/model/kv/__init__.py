"""KV of tokens: which tensors a model caches, in which numbers, and the bytes of it.

The way in: `FORMATS` (`formats.py`).

    formats.py    in which numbers the pool keeps KV, and the bytes of one; no torch
    rounding.py   a tensor as a format keeps it, and back
"""
