"""Small traces and runs for the tests of bounds and misses: by hand, at random, or of a real fleet.

A prompt is (block ids, tokens): ids of one prompt's blocks of `BLOCK` tokens; equal leading ids are
equal prefixes.
"""

import numpy as np

from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.cache_events import cache_events
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.simulated_fleet import CacheWords, SimulatedFleet
from radixroute.replay.fleet.timing import POLYNOMIAL
from radixroute.replay.results import CacheEvents, RunResult
from radixroute.replay.traces.trace import Trace

BLOCK = 4


def make_trace(prompts, outputs=None, arrival_ns=None):
    """`prompts`: (ids, tokens) each; the ids cover the tokens, the last perhaps in part."""
    n = len(prompts)
    for ids, tokens in prompts:
        assert len(ids) == -(-tokens // BLOCK)
    return Trace(
        name="test",
        block_size=BLOCK,
        arrival_ns=np.array(arrival_ns if arrival_ns is not None else range(n), np.int64),
        input_tokens=np.array([tokens for _, tokens in prompts], np.int64),
        output_tokens=np.array(outputs if outputs is not None else [1] * n, np.int64),
        first_block=np.cumsum([0, *(len(ids) for ids, _ in prompts)]).astype(np.int64),
        blocks=np.array([i for ids, _ in prompts for i in ids], np.int64),
        after=np.full(n, -1, np.int64),
    )


def random_prompts(rng, n, longest=5, fan=2):
    """Paths in a random trie, many cut at a block's end, so that last blocks are shared too."""
    prompts = []
    for _ in range(n):
        blocks = int(rng.integers(1, longest + 1))
        ids = rng.integers(0, fan, blocks).tolist()
        short = int(rng.integers(0, BLOCK)) if rng.random() < 0.5 else 0
        prompts.append((ids, blocks * BLOCK - short))
    return prompts


def random_trace(rng, n, longest=5, fan=2, gap_ns=0):
    arrival_ns = np.sort(rng.integers(0, max(1, n * gap_ns), n))
    outputs = rng.integers(1, 12, n)
    return make_trace(random_prompts(rng, n, longest, fan), outputs, arrival_ns)


def result(trace, workers=2, **columns):
    """A run made by hand; times in ns. What is not given: -1 for times, 0 for the rest."""
    n = len(trace)
    unset = {"decided_ns", "admitted_ns", "first_ns", "finish_ns"}
    names = ("worker", *unset, "cached_tokens", "predicted_tokens", "recomputed_tokens")
    filled = {
        name: np.array(columns.pop(name, [-1 if name in unset else 0] * n), np.int64)
        for name in names
    }
    fixed = {"policy": "test", "speed": 1.0, "seed": 0, "block_size": BLOCK, "wall_s": 0.0}
    return RunResult(
        trace=trace,
        workers=workers,
        arrival_ns=trace.arrival_ns,
        **{**fixed, **filled, **columns},
    )


def events_of(*changes):
    """(ns, worker, node, is stored) each."""
    table = np.array(changes, np.int64).reshape(-1, 4)
    ns, worker, node, stored = table.T.copy()
    return CacheEvents(ns, worker, node, stored.astype(np.bool_))


def drive(trace, numbered, shape: FleetShape, rng, held_back_ns=0):
    """A run of the simulated fleet: random workers, each request held back up to so long."""
    n = len(trace)
    fleet = SimulatedFleet(trace, numbered, shape, POLYNOMIAL)
    fleet.listen()
    decided_ns = trace.arrival_ns + rng.integers(0, held_back_ns + 1, n)
    worker = rng.integers(0, shape.workers, n)
    taken: list[CacheWords] = []
    for request in np.argsort(decided_ns, kind="stable").tolist():
        while fleet.now_ns < decided_ns[request]:
            fleet.advance(int(decided_ns[request]))
            fleet.take_reports()
            taken.extend(fleet.take_events())
        fleet.submit(request, int(worker[request]), fleet.now_ns)
    while not fleet.is_idle:
        fleet.advance(fleet.now_ns + 10**12)
        fleet.take_reports()
        taken.extend(fleet.take_events())
    rows = fleet.requests
    return result(
        trace,
        shape.workers,
        block_size=shape.block_size,
        worker=worker,
        decided_ns=decided_ns,
        admitted_ns=rows[:, at.ADMITTED_NS],
        first_ns=rows[:, at.FIRST_NS],
        finish_ns=rows[:, at.FINISH_NS],
        cached_tokens=rows[:, at.CACHED],
        recomputed_tokens=rows[:, at.RECOMPUTED],
        predicted_tokens=rng.integers(0, 4, n) * shape.block_size,
        events=cache_events(taken, numbered, fleet.n_unique),
        counters={"preemptions": int(fleet.workers[:, at.N_PREEMPTED].sum())},
    )
