"""What a replay's result means: how much could have been reused, and why the rest was not.

Owns the definitions of bounds, of classes of misses and of findings, which reports print. Pure: a
trace and a run's columns in, numbers out; never sees a fleet or a router.

The way in: `bounds` in `bounds.py`, `attribute_misses` in `misses.py`, `detect` in
`detectors/detect.py`.

    bounds.py           bounds: tokens that any fleet could have served from its caches
    bounds_kernels.py   caches that know the future, and one that does not
    capacity.py         how fast a trace may come until its work fills a fleet
    infinite_cache.py   the ceiling: one cache without a limit, over token ids
    misses.py           miss attribution: one class for each token that no cache served
    misses_kernels.py   goes through a run in time and asks who held what
    misses_layout.py    the classes, as columns
    detectors/          what went wrong in a run that its means do not show
    warm_caches.py      what a live run found in caches that were warm before
"""
