"""Radix tree: a worker's cached prefixes, which block holds the KV of which prefix.

Path-compressed over *symbols* (in the engine a symbol is the bytes of one block's token ids), so a
match is a comparison of tokens, never of hashes. It never knows block keys, allocates blocks or
reads a clock. One thread, that of the engine's loop. Whoever runs a request locks its path, extends
it as blocks fill, and unlocks it at the end; what nobody locks may be evicted.

Nodes are split where requests part and are not merged again when the parting branch is gone: two
parts have recencies of their own. Every node owns a block, so fragments are bounded by the pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from radixroute.radix.errors import LocalMisuse, StaleMatch
from radixroute.radix.tree.check import check_tree
from radixroute.radix.tree.eviction import (
    EvictionPolicy,
    EvictionQueue,
    LeastRecentlyUsed,
    interval_after,
)
from radixroute.radix.tree.node import (
    Node,
    S,
    append,
    attach,
    detach,
    downwards,
    split,
    trim,
    upwards,
)
from radixroute.radix.tree.node import walk as walk_below


@dataclass(frozen=True, slots=True)
class Match(Generic[S]):
    """The longest cached prefix at one moment. Valid for `lock` until the tree changes."""

    blocks: tuple[int, ...]
    n_unlocked: int  # of these blocks: `lock` lowers `n_evictable` by so many
    _end: Node[S] = field(repr=False)
    _end_len: int = field(repr=False)
    _version: int = field(repr=False)

    @property
    def length(self) -> int:
        """Matched blocks."""
        return len(self.blocks)


@dataclass(slots=True, eq=False)
class NodeRef(Generic[S]):
    """A lock on the path from the root to one point of the tree; opaque, made by `lock`."""

    _node: Node[S]
    length: int  # blocks on the path; only the tree writes it
    _is_used: bool = False  # it was touched: its end counts as a use of the path


@dataclass(frozen=True, slots=True)
class Extension:
    """What became of the blocks given to `extend`.

    The first `len(existing)` symbols were in the tree already, in these blocks: use them, and free
    your own for those symbols. The tree owns the rest of what you gave, `stored`.
    """

    existing: tuple[int, ...]
    stored: tuple[int, ...]


class RadixTree(Generic[S]):
    """Cached prefixes over symbols. Costs count symbols and the nodes on one path."""

    def __init__(self, policy: EvictionPolicy | None = None, over_age: int = 0) -> None:
        """`over_age`: blocks by which what only a session that is over used counts as older."""
        self._root: Node[S] = Node(0, [], [], None)
        self._queue: EvictionQueue[S] = EvictionQueue(policy or LeastRecentlyUsed(), over_age)
        self._refs: set[NodeRef[S]] = set()
        self._n_blocks = 0
        self._n_evictable = 0
        self._n_born = 0
        self._n_stored = 0  # blocks, ever: the clock of policies that count uses
        self._version = 0

    @property
    def n_blocks(self) -> int:
        """Blocks the tree owns, locked or not."""
        return self._n_blocks

    @property
    def n_evictable(self) -> int:
        """Blocks that nobody locks; `evict` can free them all."""
        return self._n_evictable

    @property
    def n_locked_paths(self) -> int:
        """Refs that are not unlocked yet."""
        return len(self._refs)

    def match(self, symbols: Sequence[S]) -> Match[S]:
        """The longest cached prefix of `symbols`. Pure: no split, no touch. O(symbols)."""
        found = walk_below(self._root, list(symbols))
        blocks: list[int] = []
        n_unlocked = 0
        for node in found.nodes:
            run_len = min(len(node.blocks), found.length - len(blocks))
            blocks.extend(node.blocks[:run_len])
            n_unlocked += run_len if node.locks == 0 else 0
        end = found.nodes[-1] if found.nodes else self._root
        return Match(tuple(blocks), n_unlocked, end, found.last_len, self._version)

    def lock(self, match: Match[S]) -> NodeRef[S]:
        """Pin exactly the matched blocks. Raises `StaleMatch`. O(nodes), O(run) for a split."""
        if match._version != self._version:
            raise StaleMatch("the tree changed since this match")
        end = self._cut(match._end, match._end_len)
        self._pin(end)
        ref = NodeRef(end, match.length)
        self._refs.add(ref)
        return ref

    def unlock(self, ref: NodeRef[S], session_uses: int | None = None) -> None:
        """Give the lock back; the ref is dead. Nothing is evicted by it. O(nodes).

        Where it was ever touched, its path was used once more. `session_uses`: that was the last
        use by a session that had so many, so what was not used more often may go earlier, unless
        it is used again.
        """
        self._must_be_live(ref)
        self._refs.remove(ref)
        if ref._is_used:
            self._count_use(ref._node, session_uses or 0)
        self._unpin(ref._node)

    def extend(self, ref: NodeRef[S], symbols: Sequence[S], blocks: Sequence[int]) -> Extension:
        """Insert `symbols` below a locked path, and move the lock to their end.

        What another request inserted there meanwhile is kept and shared. New blocks begin with
        the recency of the block above them, at the root with 0: touch the path. O(symbols).
        """
        self._must_be_live(ref)
        if len(symbols) != len(blocks):
            raise LocalMisuse(f"{len(symbols)} symbols but {len(blocks)} blocks")
        wanted = list(symbols)
        found = walk_below(ref._node, wanted)
        existing: list[int] = []
        end = ref._node
        if found.nodes:
            end = self._cut(found.nodes[-1], found.last_len)
            for node in (*found.nodes[:-1], end):
                existing.extend(node.blocks)
            self._pin(end, until=ref._node)
        rest = tuple(blocks[found.length :])
        if rest:
            end = self._insert(end, wanted[found.length :], rest)
        ref._node = end
        ref.length += len(wanted)
        return Extension(tuple(existing), rest)

    def retract(self, ref: NodeRef[S], n: int) -> list[int]:
        """Undo the last `n` blocks of a locked path; returns those that left the tree.

        Blocks that another ref pins stay; unlocked ones below a block that leaves leave with it,
        since their prefix was wrong. After a failed step retract its requests in the reverse order
        of their extension, each by all it locked in that step.
        """
        self._must_be_live(ref)
        if not 0 <= n <= ref.length:
            raise LocalMisuse(f"cannot retract {n} of {ref.length} blocks")
        freed: list[int] = []
        left = n
        while left:
            node = ref._node
            cut = min(left, len(node.blocks))
            above = self._release_tail if node.locks > 1 else self._remove_tail
            ref._node = above(node, cut, freed)
            left -= cut
        ref.length -= n
        return freed

    def touch(self, ref: NodeRef[S], now_ns: int) -> None:
        """A locked path is in use now. O(nodes)."""
        self._must_be_live(ref)
        ref._is_used = True
        for node in upwards(ref._node, until=self._root):  # the root's own stays 0
            if node.touched_ns >= now_ns:
                return  # and so were all above it
            node.touched_ns = now_ns

    def blocks_of(self, ref: NodeRef[S]) -> list[int]:
        """Block ids of a locked path, in order of its symbols. O(blocks)."""
        self._must_be_live(ref)
        nodes = list(upwards(ref._node))
        return [block for node in reversed(nodes) for block in node.blocks]

    def evict(self, n: int) -> list[int]:
        """Free up to `n` unlocked blocks, leaf by leaf, each from its tail. O(n log leaves)."""
        freed: list[int] = []
        while len(freed) < n:
            leaf = self._queue.first()
            if leaf is None:
                break
            cut = min(n - len(freed), len(leaf.blocks))
            self._n_evictable -= cut
            if cut < len(leaf.blocks):
                self._shrink(leaf, cut, freed)
            else:
                self._drop(leaf, freed)
        return freed

    def clear(self) -> list[int]:
        """Free every unlocked block; locked paths stay."""
        return self.evict(self._n_evictable)

    def check(self) -> None:
        """Raise `BrokenInvariant` unless every count and link is right. O(blocks)."""
        ends = [ref._node for ref in self._refs]
        check_tree(self._root, ends, list(self._queue), (self._n_blocks, self._n_evictable))

    def _must_be_live(self, ref: NodeRef[S]) -> None:
        if ref not in self._refs:
            raise LocalMisuse("this ref was unlocked, or belongs to another tree")

    def _cut(self, node: Node[S], at: int) -> Node[S]:
        """The node that ends `at` symbols into `node`: itself, or a new one above it."""
        if at == len(node.symbols):
            return node
        self._version += 1
        return split(node, at, self._next_born())

    def _pin(self, node: Node[S], until: Node[S] | None = None) -> None:
        for at in upwards(node, until):
            at.locks += 1
            if at.locks == 1:
                self._n_evictable -= len(at.blocks)
                self._queue.discard(at)

    def _unpin(self, node: Node[S]) -> None:
        for at in upwards(node):
            at.locks -= 1
            if at.locks == 0:
                self._n_evictable += len(at.blocks)
                self._queue_if_leaf(at)

    def _count_use(self, node: Node[S], session_uses: int) -> None:
        for at in upwards(node):
            if at.uses:
                at.interval = interval_after(at.interval, self._n_stored - at.used_at)
            at.uses += 1
            at.used_at = self._n_stored
            at.is_over = at.uses <= session_uses

    def _insert(self, above: Node[S], symbols: list[S], blocks: tuple[int, ...]) -> Node[S]:
        """Put new blocks, pinned once, below `above`, whose last lock is the caller's."""
        self._version += 1
        self._n_blocks += len(blocks)
        self._n_stored += len(blocks)
        # Alone at the end of a branch: let its run grow, or each decoded block would be a node.
        # What a later request appends counts as used with the run: its next turn is as likely.
        if above.locks == 1 and not above.children and above is not self._root:
            append(above, symbols, blocks)
            return above
        child = Node(
            self._next_born(),
            symbols,
            list(blocks),
            None,
            locks=1,
            touched_ns=above.touched_ns,
            end=above.end + len(blocks),
        )
        attach(child, above)
        return child

    def _release_tail(self, node: Node[S], cut: int, freed: list[int]) -> Node[S]:
        """Others pin this node: only take the caller's lock off its last `cut` blocks."""
        upper = self._cut(node, len(node.blocks) - cut) if cut < len(node.blocks) else node.parent
        node.locks -= 1
        return upper or self._root

    def _remove_tail(self, node: Node[S], cut: int, freed: list[int]) -> Node[S]:
        """Only the caller pins this node: its last `cut` blocks leave, after all below them."""
        for below in reversed(downwards(node)[1:]):
            self._n_evictable -= len(below.blocks)
            self._drop(below, freed)
        if cut < len(node.blocks):
            self._shrink(node, cut, freed)
            return node
        return self._drop(node, freed)

    def _shrink(self, node: Node[S], cut: int, freed: list[int]) -> None:
        self._version += 1
        self._n_blocks -= cut
        freed.extend(trim(node, cut))

    def _drop(self, leaf: Node[S], freed: list[int]) -> Node[S]:
        self._version += 1
        self._n_blocks -= len(leaf.blocks)
        freed.extend(reversed(leaf.blocks))
        self._queue.discard(leaf)
        parent = detach(leaf)
        if parent.locks == 0:
            self._queue_if_leaf(parent)
        return parent

    def _queue_if_leaf(self, node: Node[S]) -> None:
        if not node.children and node is not self._root:
            self._queue.add(node)

    def _next_born(self) -> int:
        self._n_born += 1
        return self._n_born
