"""I own the order in which unlocked leaves of a `RadixTree` leave it.

An `EvictionPolicy` ranks a leaf as it becomes evictable, `EvictionQueue` keeps the leaves sorted.
What a rank depends on changes only while a leaf is locked or has children, hence outside the
queue. No clock here: the tree passes times on. Called by `tree` only.
"""

from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol

from sortedcontainers import SortedList

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.node import Node, S


class LeafFacts(NamedTuple):
    """What a policy may judge a leaf by."""

    touched_ns: int  # the latest touch through it; of its parent, where it never had one
    born: int  # counts the tree's nodes: smaller is older


class EvictionPolicy(Protocol):
    """Ranks leaves: the smallest rank goes first, the older node among equals."""

    def rank(self, leaf: LeafFacts) -> int: ...


class LeastRecentlyUsed:
    """The leaf whose latest touch is longest ago goes first."""

    def rank(self, leaf: LeafFacts) -> int:
        return leaf.touched_ns


class EvictionQueue(Generic[S]):
    """Evictable leaves in the order of a policy. Each operation is O(log leaves)."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self._policy = policy
        # `born` is unique, so two entries never compare their nodes.
        self._entries: SortedList = SortedList()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Node[S]]:
        return (node for _, _, node in self._entries)

    def add(self, leaf: Node[S]) -> None:
        if leaf.queued is not None:
            raise BrokenInvariant("a leaf is queued twice")
        rank = self._policy.rank(LeafFacts(leaf.touched_ns, leaf.born))
        leaf.queued = (rank, leaf.born, leaf)
        self._entries.add(leaf.queued)

    def discard(self, leaf: Node[S]) -> None:
        if leaf.queued is not None:
            self._entries.remove(leaf.queued)
            leaf.queued = None

    def first(self) -> Node[S] | None:
        """The leaf to evict next; it stays in the queue."""
        if not self._entries:
            return None
        node: Node[S] = self._entries[0][2]
        return node
