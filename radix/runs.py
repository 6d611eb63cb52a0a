"""I turn what a holder holds into runs: chains of blocks, parents before children.

Pure functions over dicts, called by `PrefixIndex.dump` and by the publisher's mirror. Nothing
recurses, and contradictory parents (a loop, told by a faulty worker) only cost longer output.
"""

from collections.abc import Mapping

import numpy as np

from radixroute.radix.contract import Run
from radixroute.radix.ids import BlockKey, Tier

# Copies of one key, by tier.
Counts = tuple[int, ...]


def ordered_runs(
    counts_by_key: Mapping[int, Counts], parent_by_key: Mapping[int, BlockKey | None]
) -> list[Run]:
    """Runs that rebuild these copies: a block with n copies in a tier occurs n times. O(blocks)."""
    runs: list[Run] = []
    chain: list[int] = []
    for key in _parents_first(counts_by_key, parent_by_key):
        follows = bool(chain) and parent_by_key[key] == chain[-1]
        if chain and not (follows and counts_by_key[key] == counts_by_key[chain[-1]]):
            runs.extend(_runs_of(chain, counts_by_key, parent_by_key))
            chain = []
        chain.append(key)
    if chain:
        runs.extend(_runs_of(chain, counts_by_key, parent_by_key))
    return runs


def _parents_first(
    counts_by_key: Mapping[int, Counts], parent_by_key: Mapping[int, BlockKey | None]
) -> list[int]:
    placed: dict[int, None] = {}
    for key in counts_by_key:
        # Climb to the first ancestor that is placed or not held; a loop ends at its own start.
        branch: dict[int, None] = {}
        at: int | None = key
        while at is not None and at in counts_by_key and at not in placed and at not in branch:
            branch[at] = None
            at = parent_by_key[at]
        placed.update(dict.fromkeys(reversed(branch)))
    return list(placed)


def _runs_of(
    chain: list[int],
    counts_by_key: Mapping[int, Counts],
    parent_by_key: Mapping[int, BlockKey | None],
) -> list[Run]:
    keys = np.array(chain, np.uint64)
    keys.flags.writeable = False
    parent = parent_by_key[chain[0]]
    counts = counts_by_key[chain[0]]
    return [Run(parent, keys, tier) for tier in Tier for _ in range(counts[tier])]
