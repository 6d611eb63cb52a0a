"""Misses: why each prompt token was computed that a cache might have served, live.

Owns what is kept for that: the blocks of late, and sums over a window. The classes and what decides
them are those of replays; the documents have them (docs/misses.md). Bounded, and in the router's
loop: some microseconds a request.

The way in: `Misses` (`reader.py`), a reader of the router's tape.

    reader.py         one router's misses, and what is shown of them
    attribution.py    the timeline: decisions, first tokens, reports, and the classes
    caches.py         what the event streams have told, as changes in time
    blocks.py         a row for each block of late
    kernels.py        keys as rows, packed events as changes, compiled
    offsets.py        a worker's clock beside the router's
    sums.py           tokens by class, worker, tenant, session and minute
    view.py           what there is to see of them, and the one thing to change
    metrics.py        what a page shows of them
"""
