"""The simulated fleet: workers with queues, batches and prefix caches, in virtual time.

Owns the rules of `worker.engine` on numbers instead of tokens; tests hold both equal. Knows no
router: whoever drives it submits requests to workers and reads what happened. No clock, no
randomness. All of it is compiled: arrays are arguments, and their columns are named in `layout.py`.

The way in: `SimulatedFleet` in `simulated_fleet.py`, then `advance` in `kernels.py`.

    agenda.py                what is next: when which worker's step ends, who may begin one
    attempts.py              what requests had of workers that died under them
    blocks.py                KV blocks: which slot holds which prefix, and the events of that
    cache_events.py          packed words of events become `CacheEvents`
    decode_fast_forward.py   how long a step takes; decode steps that follow each other alike
    kernels.py               the kernels: submit, interrupt, settle, advance
    layout.py                columns of all arrays
    runs.py                  the tree of cached prefixes: what is in use, what goes first
    scheduler.py             which requests a step computes, and what its end gives
    shape.py                 how many workers, and how large
    simulated_fleet.py       `SimulatedFleet`: the arrays, and the only way that time passes
    tables.py                the arrays as they are at the start
    timing.py                timing models of a step; how TTFT comes about
"""
