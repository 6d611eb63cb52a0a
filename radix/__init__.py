"""Block keys, the worker's `RadixTree`, the router's `PrefixIndex`, and their reference models.

Pure and synchronous: no socket, no clock, no logging, no randomness. One writer per structure.
"""
