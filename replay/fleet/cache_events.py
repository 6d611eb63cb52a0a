"""Cache events of a simulated fleet: from packed words to `CacheEvents`, nodes in columns.

Pure. Whoever drives a `SimulatedFleet` that listens calls this at the end, with all that its
`take_events` gave.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.index.layout import PACKED_HEAD, PACKED_KIND, PACKED_REMOVE, PACKED_STORE
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.simulated_fleet import CacheWords
from radixroute.replay.results import CacheEvents
from radixroute.replay.traces.trace import Prefixes


def cache_events(taken: Iterable[CacheWords], numbered: Prefixes, n_unique: int) -> CacheEvents:
    """What steps changed, in order of time, as columns. O(changes log nodes).

    `n_unique`: output blocks that the fleet has made; they are nodes too, behind the prompts'.
    """
    runs: list[Keys] = []
    heads: list[tuple[int, int, int, int]] = []  # ns, worker, is stored, keys
    for batch in taken:
        words = batch.words
        for ns, worker, start, stop in batch.rows.tolist():
            at = start
            while at < stop:
                kind, n_keys = int(words[at] & PACKED_KIND), int(words[at + 2])
                if kind not in (PACKED_STORE, PACKED_REMOVE):
                    raise InvalidShape(f"a simulated cache stores and removes; it told kind {kind}")
                end = at + PACKED_HEAD + n_keys
                runs.append(words[at + PACKED_HEAD : end])
                heads.append((ns, worker, kind == PACKED_STORE, n_keys))
                at = end
    head = np.array(heads, np.int64).reshape(-1, 4)
    column = np.repeat(head[:, :3], head[:, 3], axis=0)
    keys = np.concatenate([np.zeros(0, np.uint64), *runs])
    return CacheEvents(
        ns=column[:, 0].copy(),
        worker=column[:, 1].copy(),
        node=_nodes_of(keys, numbered.n_nodes + n_unique),
        is_stored=column[:, 2].astype(np.bool_),
    )


def _nodes_of(keys: Keys, n_nodes: int) -> Numbers:
    from radixroute.replay.fleet.kernels import keys_of  # here: numba takes 0.5 s to import

    all_keys = np.empty(n_nodes, np.uint64)
    keys_of(np.arange(n_nodes, dtype=np.int32), all_keys)
    by_key: NDArray[np.int64] = np.argsort(all_keys)
    in_order = all_keys[by_key]
    place = np.searchsorted(in_order, keys)
    is_known = place < n_nodes
    is_known[is_known] = in_order[place[is_known]] == keys[is_known]
    if not is_known.all():
        raise InvalidShape(
            f"{int((~is_known).sum())} cache changes are about blocks that this trace and"
            f" {n_nodes} nodes do not have: give the prefixes and the count of the same fleet"
        )
    return by_key[place]
