"""Bounds: how many prompt tokens any fleet could have served from its caches. Pure.

Owns the definitions, which are for reports too (`DEFINITIONS`). A prompt of L tokens can reuse the
first floor((L - 1) / block size) blocks: at least one token is computed. What bounds what:

    infinite  >=  pooled_belady_of(run)  >=  run        for every run of a fleet, proved below
    infinite  >=  pooled_belady  >=  pooled_lru, per_worker_clairvoyant      proved below

Infinite. Some request computes a block first and cannot reuse it, so of the requests that can
reuse it at least one misses, unless one that has it as its last block, and thus cannot, was first.
No order has more such luck than the one by length. Order, time and worker do not matter.

Pooled Belady. A hit needs the block in some worker from the end of the last request before that
had it (until then it may be in use, or not stored yet) to the admission of the one that hits: an
interval. At no time do more intervals overlap than all workers have places. The largest such set
is found by going through time and, when there are too many, dropping the one that ends last: this
is Belady's rule, and as the block just used may be the one dropped, it may bypass the cache. A
block's interval never ends later than those of blocks behind it and wins ties, so the kept set has
every block's ancestors: needing a whole prefix costs nothing here. What the bound grants beyond a
real fleet: places that running requests, copies and outputs take are free for others, and each
worker can reach every block.

`pooled_belady_of(run)` takes the times from the run; so does a policy's own order enter, and it
holds for any. `pooled_belady` knows no run: each request ends before the next in the trace begins.
It bounds what is possible *in that order*, and is what "percent of reachable" refers to. It is not
a bound for routers that start requests in another order, or for requests that overlap: one that
could hold requests back for long would reach the infinite cache, so no such bound exists below it.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Prefixes, Trace

DEFINITIONS = {
    "infinite": "Every block that any request computed before is reused, whatever the order:"
    " one cache without a limit. No run that begins with empty caches can reuse more.",
    "pooled_belady": "The most that one cache as large as all workers together can serve, knowing"
    " the future, with the requests one after another in the order of the trace: it keeps the"
    " blocks that are used soonest and need not keep any. 100 % of reachable.",
    "pooled_belady_of_run": "The same with the times at which this run admitted and finished its"
    " requests, what runs being free of charge. The run cannot reuse more.",
    "pooled_lru": "One cache as large as all workers together that evicts what was used longest"
    " ago; outputs take places too. A reference, no bound.",
    "per_worker_clairvoyant": "A cache for each worker that evicts what is used last in the"
    " future. Each request goes where the blocks it finds, plus the blocks used again that nobody"
    " holds and that have room there, are most. A heuristic: a reference, no bound.",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """Prompt tokens that `name` (of `DEFINITIONS`) would serve from its cache."""

    name: str
    tokens: int
    prompt_tokens: int

    @property
    def fraction(self) -> float:
        return self.tokens / max(1, self.prompt_tokens)

    def reached_by(self, run: RunResult) -> float:
        """The run's cached tokens / this bound's. 1 where there is nothing to reach."""
        return float(run.cached_tokens.clip(0).sum()) / self.tokens if self.tokens else 1.0


def bounds(trace: Trace, numbered: Prefixes, workers: int, kv_blocks: int) -> dict[str, Bound]:
    """All bounds and references that need no run, by name. `kv_blocks`: of each worker."""
    pool = workers * kv_blocks
    found = (
        infinite(trace, numbered),
        pooled_belady(trace, numbered, pool),
        pooled_lru(trace, numbered, pool),
        per_worker_clairvoyant(trace, numbered, workers, kv_blocks),
    )
    return {bound.name: bound for bound in found}


def infinite(trace: Trace, numbered: Prefixes) -> Bound:
    """What one cache without a limit serves at most, in any order. O(blocks)."""
    from radixroute.replay.analysis.bounds_kernels import (
        count_repeats,  # numba takes 0.5 s to import
    )

    queue = _queued(trace, numbered, np.argsort(trace.input_tokens, kind="stable"))
    hits = count_repeats(queue.first, queue.nodes, queue.reusable, numbered.n_nodes)
    return _bound("infinite", hits, trace, numbered)


def pooled_belady(trace: Trace, numbered: Prefixes, blocks: int) -> Bound:
    """What a clairvoyant cache of `blocks` serves at most, in trace order. O(blocks log blocks)."""
    queue = _queued(trace, numbered, np.arange(len(trace)))
    hits = _count_belady(queue, numbered, np.arange(2 * len(trace)), blocks)
    return _bound("pooled_belady", hits, trace, numbered)


def pooled_belady_of(run: RunResult, numbered: Prefixes, blocks: int) -> Bound:
    """The same at the times of `run`, as a bound for it. `blocks`: of all workers together.

    Requests that were never admitted are left out; those that never finished run for ever.
    """
    admitted = np.flatnonzero(run.admitted_ns >= 0)
    # Among those of one time the shorter ones first: who computed is unknown, this grants most.
    by_time = np.lexsort((run.trace.input_tokens[admitted], run.admitted_ns[admitted]))
    order = admitted[by_time]
    finish_ns = run.finish_ns[order]
    never = np.iinfo(np.int64).max
    ns = np.concatenate([run.admitted_ns[order], np.where(finish_ns < 0, never, finish_ns)])
    is_end = np.repeat([0, 1], len(order))
    # Of one time, beginnings first: what ends then was there.
    moments = (2 * np.tile(np.arange(len(order)), 2) + is_end)[np.lexsort((is_end, ns))]
    hits = _count_belady(_queued(run.trace, numbered, order), numbered, moments, blocks)
    return _bound("pooled_belady_of_run", hits, run.trace, numbered)


def pooled_lru(trace: Trace, numbered: Prefixes, blocks: int, *, has_outputs: bool = True) -> Bound:
    """What one least-recently-used cache of `blocks` serves, in trace order. O(blocks)."""
    hits = int(_pooled_lru_hits(trace, numbered, blocks, has_outputs=has_outputs).sum())
    return _bound("pooled_lru", hits, trace, numbered)


def pooled_lru_tokens(trace: Trace, numbered: Prefixes, blocks: int) -> Numbers:
    """Tokens of each request that `pooled_lru` serves, shape (requests,)."""
    return _pooled_lru_hits(trace, numbered, blocks, has_outputs=True) * numbered.block_size


def _pooled_lru_hits(
    trace: Trace, numbered: Prefixes, blocks: int, *, has_outputs: bool
) -> Numbers:
    """Blocks of each request."""
    from radixroute.replay.analysis.bounds_kernels import count_pooled_lru

    _refuse_none(blocks)
    queue = _queued(trace, numbered, np.arange(len(trace)))
    # The last token generated is never computed.
    held = (trace.input_tokens + trace.output_tokens - 1) // numbered.block_size
    outputs = np.maximum(0, held - np.diff(queue.first)) * has_outputs
    if numbered.n_nodes + int(outputs.sum()) >= np.iinfo(np.int32).max:
        raise InvalidShape("the trace has more than two billion distinct blocks; cut it")
    hits = np.empty(len(trace), np.int64)
    count_pooled_lru(
        queue.first, queue.nodes, queue.reusable, numbered.n_nodes, outputs, blocks, hits
    )
    return hits


def per_worker_clairvoyant(trace: Trace, numbered: Prefixes, workers: int, kv_blocks: int) -> Bound:
    """What clairvoyant workers serve when each request is placed greedily, in trace order.

    A request goes to the worker with the most (leading blocks it holds + min(its free places,
    blocks of the prompt that are used again and nobody holds)); among equals to the one with most
    free places, then to that which would lose the block used last, then to the first.
    O(blocks (workers + log blocks)).
    """
    from radixroute.replay.analysis.bounds_kernels import count_per_worker

    _refuse_none(min(workers, kv_blocks))
    queue = _queued(trace, numbered, np.arange(len(trace)))
    hits = count_per_worker(
        queue.first, queue.nodes, queue.reusable, numbered.n_nodes, workers, kv_blocks
    )
    return _bound("per_worker_clairvoyant", hits, trace, numbered)


@dataclass(frozen=True, slots=True, eq=False)
class _Queue:
    """Requests in the order in which they are served; columns as in `Prefixes`."""

    first: Numbers
    nodes: np.ndarray[tuple[int], np.dtype[np.int32]]
    reusable: Numbers  # blocks of each prompt


def _queued(trace: Trace, numbered: Prefixes, order: Numbers) -> _Queue:
    n_blocks = np.diff(numbered.first)[order]
    first = np.zeros(len(order) + 1, np.int64)
    np.cumsum(n_blocks, out=first[1:])
    shift = np.repeat(numbered.first[:-1][order] - first[:-1], n_blocks)
    nodes = numbered.nodes[shift + np.arange(first[-1])]
    reusable = np.maximum(0, trace.input_tokens[order] - 1) // numbered.block_size
    return _Queue(first, nodes, reusable)


def _count_belady(queue: _Queue, numbered: Prefixes, moments: Numbers, blocks: int) -> int:
    from radixroute.replay.analysis.bounds_kernels import count_pooled_belady

    _refuse_none(blocks)
    return count_pooled_belady(
        queue.first, queue.nodes, queue.reusable, numbered.n_nodes, moments, blocks
    )


def _refuse_none(places: int) -> None:
    if places < 1:
        raise InvalidShape(f"workers and their blocks must be at least 1, not {places}")


def _bound(name: str, hits: int, trace: Trace, numbered: Prefixes) -> Bound:
    return Bound(name, hits * numbered.block_size, trace.prompt_tokens)
