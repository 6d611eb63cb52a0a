"""Who owns each block of an engine, counted from the lists themselves and not from references.

Every block is free, or in the tree, or one lease's own: exactly one of the three, once. Between
steps only.
"""

from collections import Counter

import numpy as np

from radixroute.radix.tree.node import downwards
from radixroute.worker.engine.cache import PrefixCache
from radixroute.worker.engine.inference import InferenceEngine


def assert_one_owner_each(cache: PrefixCache) -> None:
    """No block with two owners or none; whoever shares one shares the tree's own path."""
    tree = cache._tree
    cached = [block for node in downwards(tree._root) for block in node.blocks]
    own = [block for lease in cache._leases for block in lease.table[lease.n_shared :]]
    owners = Counter(cache._blocks._free) + Counter(cached) + Counter(own)
    assert owners == Counter(range(cache.n_blocks)), "free + cached + own is not each block once"
    assert cache.n_used == len(cached) + len(own)
    for lease in cache._leases:
        assert lease.ref is not None, "not pinned: only under a window"
        assert lease.table[: lease.n_shared] == tree.blocks_of(lease.ref)
    assert tree.n_locked_paths == len(cache._leases)


def assert_nothing_is_held(engine: InferenceEngine) -> None:
    """An idle engine: what is used is cached, all of it can be evicted, and then all is free."""
    cache = engine._cache
    assert not engine.has_work
    assert not cache._leases
    assert not any(session.in_flight for session in engine._progress.of(()))
    assert_one_owner_each(cache)
    assert cache.n_used == cache._tree.n_blocks == cache._tree.n_evictable
    assert cache.n_available == cache.n_blocks


def empty(cache: PrefixCache) -> None:
    """Ask for the whole pool and give it back: everything cached is evicted, nothing is left."""
    lease = cache.acquire(np.empty(0, np.uint32))
    cache.grow(lease, cache.n_blocks * cache.block_size)
    assert cache._blocks.n_free == 0
    cache.release(lease)
    assert (cache.n_used, cache.resident_keys()) == (0, set())
    assert_one_owner_each(cache)
