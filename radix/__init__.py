"""Block keys, the worker's `RadixTree`, the router's `PrefixIndex`, and their reference models.

Pure and synchronous: no socket, no clock, no randomness, and no log but one line of `jit`'s. One
writer per structure.
"""
