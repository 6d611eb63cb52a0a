"""Placement: sessions moved from what they hold for nothing, copies nobody asked for. Pure.

A request is moved for nothing if most of its prompt was cached on a worker with no prompt pending,
which could have begun at once with less to compute, and it went elsewhere and computed that again.
A copy is whatever is computed though another worker held it; nobody asked for it if no later
request found it there. Copies of the last quarter of a run had no time to be asked for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.analysis.detectors.occupancy import Occupancy
from radixroute.replay.findings import Finding
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Prefixes

# Of all computed tokens: below these nobody would do anything about it.
LEAST_MOVED = 0.1
LEAST_WASTED = 0.15
# Of a prompt: who holds less draws nobody. Many prompts of a service begin with the same few words.
_LITTLE = 0.1
_WATCHED = 0.75  # of the time of decisions


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """What was known of each answered request's prompt; tokens, shape (answered,)."""

    input_tokens: Numbers
    held: Numbers  # by the worker that surely held most of it
    moved: Numbers  # computed again though that worker could have begun at once
    wasted: Numbers  # computed again, and never found there by anybody

    @property
    def is_free(self) -> NDArray[np.bool_]:
        """Nobody held more than a little of it: it could go anywhere."""
        return np.asarray(self.held <= _LITTLE * self.input_tokens, np.bool_)


def follow_prefixes(run: RunResult, numbered: Prefixes, seen: Occupancy) -> Placed:
    """O(blocks of all prompts)."""
    from radixroute.replay.analysis.detectors import kernels as at  # numba takes 0.5 s to import

    block, requests = run.block_size, seen.request
    n_blocks = np.diff(numbered.first)[requests]
    first = np.concatenate([[0], np.cumsum(n_blocks)])
    shift = np.repeat(numbered.first[:-1][requests] - first[:-1], n_blocks)
    nodes = numbered.nodes[shift + np.arange(first[-1])]
    held = (seen.input_tokens + seen.output_tokens - 1) // block
    never = np.iinfo(np.int64).max // 4
    total = np.full(run.workers, never) if run.caches is None else run.caches.total
    found = np.zeros((at.N_FOUND, len(seen)), np.int64)
    at.follow(
        first,
        nodes,
        np.maximum(0, seen.input_tokens - 1) // block,
        seen.worker,
        np.minimum((seen.input_tokens - seen.computed_tokens) // block, n_blocks),
        np.maximum(0, held - n_blocks),
        seen.decided_ns,
        seen.first_ns,
        np.argsort(seen.first_ns, kind="stable"),
        total,
        np.full((at.N_KEPT, numbered.n_nodes), -1, np.int64),
        found,
    )
    tokens = found * block
    return Placed(seen.input_tokens, tokens[at.HELD], tokens[at.MOVED], tokens[at.WASTED])


def moved_for_nothing(seen: Occupancy, placed: Placed) -> Finding | None:
    share = float(placed.moved.sum()) / max(1, int(seen.computed_tokens.sum()))
    if share < LEAST_MOVED:
        return None
    sentence = (
        f"{int((placed.moved > 0).sum()):,} of {len(seen):,} requests were sent away from a worker"
        f" that held their prefix and could have begun at once: {share:.0%} of all computed tokens"
    )
    return Finding("moved_for_nothing", sentence, share)


def wasted_copies(seen: Occupancy, placed: Placed) -> Finding | None:
    if not len(seen):
        return None
    start, end = int(seen.decided_ns[0]), int(seen.decided_ns[-1])
    watched = seen.decided_ns <= start + _WATCHED * (end - start)
    computed = max(1, int(seen.computed_tokens[watched].sum()))
    share = float(placed.wasted[watched].sum()) / computed
    if share < LEAST_WASTED:
        return None
    sentence = (
        f"{share:.0%} of all computed tokens were copies of what another worker held, and no later"
        " request found them"
    )
    return Finding("wasted_copies", sentence, share)
