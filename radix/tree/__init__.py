"""radix.tree: the worker's cache of prefixes, compared symbol by symbol.

Owns which block ids hold the KV of which prefix, who has a path locked, and what leaves next. Never
allocates or frees a block and never knows block keys.

The way in: `RadixTree` (`radix_tree.py`). `match`, `extend`: O(symbols); `evict`: O(n log leaves).

    radix_tree.py   `RadixTree`: match, lock, extend, evict
    node.py         one node: a run of symbols; split, trim, attach, detach
    eviction.py     which unlocked leaf leaves next: the policies and their queue
    check.py        every invariant, from scratch

What leaves is the unlocked leaf with the smallest rank, block by block from its tail. A policy
ranks a leaf when it becomes evictable: by its last touch, or by how old it is on the clock of
stored blocks, its uses (requests that touched it and ended), the interval between them (blocks
stored meanwhile) and its depth. A trimmed leaf keeps its rank. LRU is the default;
`docs/eviction.md` has the others and what they are worth.
"""
