"""The engine: which tokens of which requests each step computes, and which KV blocks hold them.

Owns running requests, the prefix cache and its events, and the two seams of a worker: `Engine`
towards the server and `ModelRunner` towards the model. Sans-I/O: no torch, no socket, no process;
clocks are passed in. One thread.

The way in is `InferenceEngine.step` (`inference.py`): it asks `Scheduler.schedule` for a plan, lets
a `ModelRunner` compute it and reports an `EngineStep`.

    engine.py      the `Engine` seam: requests, outputs, steps
    host.py        the `EngineHost` seam: where an engine lives, seen from the server
    inference.py   `InferenceEngine`: scheduler, cache and runner put together
    scheduler.py   continuous batching, chunked prefill, preemption
    step.py        what one step computes; the scheduler's limits and counters
    sequence.py    one request while it is scheduled
    ends.py        which tokens end an answer, and from when on
    cache.py       `PrefixCache`: leases of KV blocks, sharing, eviction, events
    lease.py       the blocks of one sequence while it runs
    window.py      which blocks left a sliding window
    blocks.py      which KV blocks are free and how many users the others have
    progress.py    last dispatch seen and load, by worker session
    runner.py      the `ModelRunner` seam: what one step asks of a model
"""
