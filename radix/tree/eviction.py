"""Eviction: the order in which unlocked leaves of a `RadixTree` leave it.

An `EvictionPolicy` ranks a leaf as it becomes evictable, `EvictionQueue` keeps the leaves sorted.
What a rank depends on changes only while a leaf is locked or has children, hence outside the
queue. No clock here: the tree passes times on. `docs/eviction.md` says what the policies are worth.
Called by `RadixTree`; the simulated fleet compiles the functions of `HeadStart`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, Protocol

from sortedcontainers import SortedList

from radixroute.radix.errors import BrokenInvariant, LocalMisuse
from radixroute.radix.tree.node import Node, S


class LeafFacts(NamedTuple):
    """What a policy may judge a leaf by."""

    touched_ns: int  # the latest touch through it; of its parent, where it never had one
    born: int  # counts the tree's nodes: smaller is older
    uses: int = 0  # requests that touched it and ended
    used_at: int = 0  # blocks the tree had ever stored when the last of them ended
    interval: int = (
        0  # blocks stored between two of them: the last interval, or half of a longer one before
    )
    end: int = 0  # blocks from the start of the prompt to its end


class EvictionPolicy(Protocol):
    """Ranks leaves: the smallest rank goes first; of equals the one touched longest ago, then the
    older node."""

    ranks_in_blocks: ClassVar[bool]  # ranks are counts of stored blocks

    def rank(self, leaf: LeafFacts) -> int: ...


class LeastRecentlyUsed:
    """The leaf whose latest touch is longest ago goes first."""

    ranks_in_blocks: ClassVar[bool] = False

    def rank(self, leaf: LeafFacts) -> int:
        return leaf.touched_ns


@dataclass(frozen=True, slots=True)
class HeadStart:
    """The oldest leaf goes first, where uses are worth age: `head_start`.

    Age is counted in blocks stored since the last use, so a policy is the same at any pace.
    """

    ranks_in_blocks: ClassVar[bool] = True
    step: int  # blocks, for each use after the first
    top: int  # no more than so many steps
    intervals: int = 0  # no more than so many of its own intervals; 0: no limit
    far: int = 0  # blocks from the start of a prompt where all that counts double; 0: nowhere

    def rank(self, leaf: LeafFacts) -> int:
        start = head_start(leaf.uses, leaf.interval, self.step, self.top, self.intervals)
        return leaf.used_at + dearer(start, leaf.end, self.far)


def interval_after(old_interval: int, blocks: int) -> int:
    """Of a leaf used again after so many stored blocks. One short interval says little."""
    return max(blocks, old_interval // 2)


def head_start(uses: int, interval: int, step: int, top: int, intervals: int) -> int:
    """Blocks by which a leaf counts as younger than one of the same age used once.

    Whole numbers only, here and around: numba compiles these functions too, and must agree.
    """
    start = step * min(max(uses - 1, 0), top)
    if intervals > 0:
        start = min(start, intervals * interval)
    return start


def dearer(start: int, end: int, far: int) -> int:
    """A head start that far into a prompt: attention makes later blocks dearer to compute."""
    if far > 0:
        return start + start * min(end, far) // far
    return start


class _Shares(NamedTuple):
    """A `HeadStart` of any pool."""

    step_percent: int  # of the pool
    top: int
    intervals: int = 0
    far_tokens: int = 0


LRU = "lru"
_HEAD_STARTS = {
    "slru": _Shares(80, 1),
    "lfu": _Shares(25, 6, intervals=2),
    "cost": _Shares(18, 6, intervals=2, far_tokens=32768),
}
EVICTION_POLICIES = (LRU, *_HEAD_STARTS)


def eviction_named(name: str, n_blocks: int, block_size: int) -> HeadStart | None:
    """The policy of this name for a pool of `n_blocks` blocks of so many tokens; None: LRU.

    Raises `LocalMisuse` for a name that is none of `EVICTION_POLICIES`.
    """
    if name == LRU:
        return None
    if name not in _HEAD_STARTS:
        raise LocalMisuse(
            f"no eviction policy is called {name!r}; use one of {', '.join(EVICTION_POLICIES)}"
        )
    shares = _HEAD_STARTS[name]
    far = -(-shares.far_tokens // block_size)
    return HeadStart(n_blocks * shares.step_percent // 100, shares.top, shares.intervals, far)


def over_age(n_blocks: int) -> int:
    """Blocks by which what only a session that is over used counts as older, in such a pool.

    80 %: of what was tried, from 25 % to "before all else", the largest under which examples that
    others are to share still outlive the first who brings them (`docs/eviction.md`).
    """
    return n_blocks * 80 // 100


class EvictionQueue(Generic[S]):
    """Evictable leaves in the order of a policy. Each operation is O(log leaves).

    Leaves of sessions that are over stand apart, in the same order: so nothing changes for the
    others where no client tells. Of the two first ones that of the former goes, if it would be the
    older one with `over_age` stored blocks more.
    """

    def __init__(self, policy: EvictionPolicy, over_age: int = 0) -> None:
        self._policy = policy
        self._over_age = over_age
        # `born` is unique, so two entries never compare their nodes.
        self._entries: SortedList = SortedList()
        self._over: SortedList = SortedList()

    def __len__(self) -> int:
        return len(self._entries) + len(self._over)

    def __iter__(self) -> Iterator[Node[S]]:
        return (entry[-1] for entries in (self._over, self._entries) for entry in entries)

    def add(self, leaf: Node[S]) -> None:
        if leaf.queued is not None:
            raise BrokenInvariant("a leaf is queued twice")
        touched_ns, born = leaf.touched_ns, leaf.born
        facts = LeafFacts(touched_ns, born, leaf.uses, leaf.used_at, leaf.interval, leaf.end)
        leaf.queued = (self._policy.rank(facts), touched_ns, born, leaf)
        self._among(leaf).add(leaf.queued)

    def discard(self, leaf: Node[S]) -> None:
        if leaf.queued is not None:
            self._among(leaf).remove(leaf.queued)
            leaf.queued = None

    def first(self) -> Node[S] | None:
        """The leaf to evict next; it stays in the queue."""
        entries = self._entries
        if self._over and (not entries or self._is_over_older()):
            entries = self._over
        if not entries:
            return None
        node: Node[S] = entries[0][-1]
        return node

    def _among(self, leaf: Node[S]) -> SortedList:
        return self._over if leaf.is_over else self._entries

    def _is_over_older(self) -> bool:
        """Of the two first ones, the session that is over has the older: in blocks."""
        over, other = self._over[0], self._entries[0]
        if self._policy.ranks_in_blocks:
            return bool(over[0] - self._over_age <= other[0])
        return bool(over[-1].used_at - self._over_age <= other[-1].used_at)
