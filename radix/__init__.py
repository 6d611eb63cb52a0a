"""radix: block keys, the worker's tree of cached prefixes, the router's prefix index.

Owns the data structures that say whose cache holds which prefix. Pure and synchronous: no socket,
no clock, no randomness, and no log but one line of `jit`'s. One writer per structure, no locks.
Never chooses a worker, allocates a block or decodes an event.

The way in: `PrefixIndex` (`index/prefix_index.py`) for the router, `RadixTree`
(`tree/radix_tree.py`) for the worker, `block_keys` (`keys/block_keys.py`) for both.

    index/              the router's belief: which holder has which blocks
    keys/               tokens into block keys, and what keys are salted with
    tree/               the worker's own cache of prefixes, and what leaves it
    digest.py           the copies of blocks in a cache as one number that needs no memory of them
    errors.py           everything the room raises, and every room's `BrokenInvariant`
    ids.py              the ids and arrays that cross rooms, each its own type
    jit.py              how a function becomes a kernel, and where machine code is kept
    jit_compiler.py     numba's compiler without what kernels have no use for
    jit_cache.py        the folders of machine code: whose they are, which may go, who writes
    jit_parts.py        helpers as parts of kernels: optimised once, with them
    jit_progress.py     who is told that a process compiles
    jit_sources.py      what a kernel's machine code depends on: all that its file imports
    mixing.py           SplitMix64's constants and finaliser, written once
    mixing_kernels.py   the form of them that kernels call
    prefetch.py         asks the processor for a cache line ahead of time
    warm.py             compiles or loads every kernel and proves the keys

A collision of keys may cost a worse choice, never a wrong answer: workers compare tokens before
they reuse. Compiling every kernel takes a minute, once (`radixroute warm`, `make dev`, `up`).
"""
