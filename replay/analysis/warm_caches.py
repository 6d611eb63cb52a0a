"""What a live run found in caches that were warm before it began. Pure.

A block that a request finds cached was computed before: by another request of the run, sent before
this one's first token, or before the run. What no such request had is the second, so no bound that
begins with empty caches holds for it.
"""

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.results import RunResult
from radixroute.replay.traces.trace import Prefixes

INFINITE_WARM = "infinite_warm"
DEFINITION = (
    "What `infinite` allows, and the prompt tokens that live runs found cached before they began."
    " No run over these warm caches can reuse more."
)
_NEVER = np.iinfo(np.int64).max
_ROUNDING = 1e-9


def warm_tokens(run: RunResult, numbered: Prefixes) -> Numbers:
    """Prompt tokens of each request, shape (requests,), that were cached before the run began.

    At least: what both a cache and a request of the run may have given counts as the run's.
    O(blocks log blocks).
    """
    n_blocks = np.diff(numbered.first)
    owner = np.repeat(np.arange(len(n_blocks)), n_blocks)
    came_ns = np.where(run.arrival_ns < 0, _NEVER, run.arrival_ns)
    earliest, first_owner, second = _two_earliest(numbered, owner, came_ns)
    is_own = first_owner[numbered.nodes] == owner
    other = np.where(is_own, second[numbered.nodes], earliest[numbered.nodes])
    until_ns = np.where(run.first_ns < 0, _NEVER, run.first_ns)
    # A prompt's block was had by all who had one behind it: what was there is a prefix.
    could = np.bincount(owner, other < until_ns[owner], len(n_blocks)).astype(np.int64)
    return np.asarray(np.maximum(0, run.cached_tokens - could * numbered.block_size), np.int64)


def warm_share(run: RunResult, numbered: Prefixes, infinite: float) -> float:
    """At least so much of the prompt tokens was cached before the run began.

    `infinite`: the reuse that empty caches allow; what goes beyond it was cached before, too.
    """
    found = int(warm_tokens(run, numbered).sum()) / max(1, run.trace.prompt_tokens)
    beyond = run.reuse - infinite
    return max(found, beyond if beyond > _ROUNDING else 0.0)


def _two_earliest(
    numbered: Prefixes, owner: Numbers, came_ns: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Of each node: when the first request that has it came, that one, and when the second did."""
    order = np.lexsort((came_ns[owner], numbered.nodes))
    nodes = numbered.nodes[order]
    is_first = np.ones(len(nodes), np.bool_)
    is_first[1:] = nodes[1:] != nodes[:-1]
    starts = np.flatnonzero(is_first)
    earliest = np.full(numbered.n_nodes, _NEVER, np.int64)
    second = np.full(numbered.n_nodes, _NEVER, np.int64)
    first_owner = np.full(numbered.n_nodes, -1, np.int64)
    earliest[nodes[starts]] = came_ns[owner[order[starts]]]
    first_owner[nodes[starts]] = owner[order[starts]]
    has_second = starts[starts + 1 < len(nodes)]
    has_second = has_second[~is_first[has_second + 1]]
    second[nodes[has_second]] = came_ns[owner[order[has_second + 1]]]
    return earliest, first_owner, second
