"""What a replay's result means: how much could have been reused, and why the rest was not.

Owns the definitions of bounds and of classes of misses, which reports print. Pure: a trace and a
run's columns in, numbers out; never sees a fleet or a router.

The way in: `bounds` in `bounds.py`, `attribute_misses` in `misses.py`.

    bounds.py           bounds: tokens that any fleet could have served from its caches
    bounds_kernels.py   caches that know the future, and one that does not
    infinite_cache.py   the ceiling: one cache without a limit, over token ids
    misses.py           miss attribution: one class for each token that no cache served
    misses_kernels.py   goes through a run in time and asks who held what
    misses_layout.py    the classes, as columns
    warm_caches.py      what a live run found in caches that were warm before
"""
