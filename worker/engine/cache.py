"""Prefix cache: which KV blocks hold which tokens, and the events that say so.

Owns the `RadixTree`, the `BlockAllocator` and the key of each cached block; a running sequence
holds a `BlockLease`. Blocks enter the tree when their tokens are scheduled, so that a request of
the same step already shares them; `retract` takes them back when the step fails. Sharing compares
tokens, and before a prompt's first ones its scope: two scopes part at the tree's root. Keys are
only names for the router. Never chooses who runs. Called by the scheduler; one thread, no torch.

With a sliding window a lease gives back the blocks that left it, and then pins nothing between
steps (`lease`). What holds then as ever: the tree has every block of a path or none below the first
that is missing, and events mirror the tree. So a prefix whose blocks are gone is never advertised:
their memory is taken by evicting them, and eviction takes what is below them first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Keys, Tokens
from radixroute.radix.keys.block_keys import extend_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.radix.tree.eviction import LRU, eviction_named, over_age
from radixroute.radix.tree.radix_tree import NodeRef, RadixTree
from radixroute.worker.engine.blocks import BlockAllocator, LooseBlocks
from radixroute.worker.engine.lease import BlockLease
from radixroute.worker.engine.window import n_blocks_gone


@dataclass(slots=True)
class CacheCounters:
    """What the cache did since it began, in blocks."""

    stored: int = 0
    evicted: int = 0
    retracted: int = 0
    deduplicated: int = 0


class PrefixCache:
    """Leases of KV blocks with every shared prefix stored once.

    Raises `LocalMisuse` for an eviction policy nobody knows.
    """

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        scope: Scope,
        *,
        events_carry_tokens: bool = False,
        eviction_policy: str = LRU,  # of `EVICTION_POLICIES`
        window: int | None = None,  # tokens that a token sees in every layer, itself among them
    ) -> None:
        self.block_size = block_size
        self.window = window
        self._events_carry_tokens = events_carry_tokens  # those of stored blocks
        self.counters = CacheCounters()
        self._scope = scope
        self._seed = scope.seed  # of requests that add nothing
        self._blocks = BlockAllocator(n_blocks)
        policy = eviction_named(eviction_policy, n_blocks, block_size)
        self._tree: RadixTree[bytes] = RadixTree(policy, over_age(n_blocks))
        self._key_by_block: dict[int, BlockKey] = {}
        self._leases: set[BlockLease] = set()
        self._loose = LooseBlocks()
        self._events: list[Event] = []
        self._n_taken = 0

    @property
    def n_blocks(self) -> int:
        return self._blocks.n_blocks

    @property
    def n_used(self) -> int:
        """Blocks pinned or cached."""
        return self._blocks.n_blocks - self._blocks.n_free

    @property
    def n_available(self) -> int:
        """Blocks that are free or could be by eviction.

        Less than that by the blocks that one lease pins and another holds loosely: never where a
        sequence is alone, so that the oldest one always gets what there is.
        """
        return self._blocks.n_free + self._tree.n_evictable - self._loose.n_blocks

    def blocks_for(self, n_tokens: int) -> int:
        return -(-n_tokens // self.block_size)

    def n_gone_after(self, n_computed: int) -> int:
        """Leading blocks that no token after so many computed ones sees."""
        return n_blocks_gone(n_computed, self.block_size, self.window)

    def cached_tokens(self, tokens: Tokens, scope: RequestScope = UNSCOPED) -> int:
        """Leading tokens a sequence would not have to compute. Pure. O(blocks)."""
        return self._tree.match(self._reusable(tokens, scope)).length * self.block_size

    def acquire(self, tokens: Tokens, scope: RequestScope = UNSCOPED) -> BlockLease:
        """A lease of the longest cached prefix, pinned; at least one token stays uncovered."""
        match = self._tree.match(self._reusable(tokens, scope))
        n_gone = self.n_gone_after(match.length * self.block_size)
        table = list(match.blocks[n_gone:])
        self._blocks.retain(table)
        seed = self._seed if scope is UNSCOPED else self._scope.seed_of(scope)
        last_key = self._key_by_block[match.blocks[-1]] if match.blocks else None
        ref = None if n_gone else self._tree.lock(match)
        lease = BlockLease(ref, table, match.length, last_key, scope, seed, n_gone)
        self._leases.add(lease)
        if ref is None:
            self._loosen(lease)
        return lease

    def can_grow(self, lease: BlockLease, n_tokens: int) -> bool:
        return self.blocks_for(n_tokens) - lease.n_blocks <= self.n_available

    def grow(self, lease: BlockLease, n_tokens: int) -> None:
        """Give the lease blocks for its first `n_tokens` tokens, evicting where none is free."""
        n_new = self.blocks_for(n_tokens) - lease.n_blocks
        if n_new <= 0:
            return
        self._evict_until_free(n_new)
        lease.table.extend(self._blocks.allocate(n_new))

    def publish(self, lease: BlockLease, tokens: Tokens, n_tokens: int) -> None:
        """Put the blocks filled by the first `n_tokens` tokens into the tree."""
        full = n_tokens // self.block_size
        ref = self._pin(lease, tokens) if full > lease.n_shared else None
        if ref is None:
            return
        filled = tokens[lease.n_shared * self.block_size : full * self.block_size]
        keys = extend_keys(lease.last_key, filled, self.block_size, lease.seed)
        first = lease.n_shared - lease.n_gone  # in the table
        own = lease.table[first : full - lease.n_gone]
        symbols = self._symbols(filled)
        if not lease.n_shared and lease.scope is not UNSCOPED:
            symbols[0] = lease.scope.mark + symbols[0]
        extension = self._tree.extend(ref, symbols, own)
        # A reference of our own until `settle`: the step still writes to our copy.
        self._blocks.retain(extension.existing)
        lease.duplicates.extend(enumerate(extension.existing, start=first))
        self._store(lease, keys, extension.stored, filled)
        lease.n_fresh += len(extension.stored)
        lease.n_shared = full
        lease.last_key = BlockKey(int(keys[-1]))

    def settle(self, lease: BlockLease) -> None:
        """The step is done: give up own copies of blocks that the tree already had."""
        for index, block in lease.duplicates:
            self._blocks.release((lease.table[index],))
            lease.table[index] = block
        self.counters.deduplicated += len(lease.duplicates)
        lease.duplicates.clear()
        lease.n_fresh = 0
        if lease.n_gone:
            self._unpin(lease)

    def slide(self, lease: BlockLease, n_computed: int) -> None:
        """So many tokens are computed: give back the blocks that left the window. After `settle`.

        What of them is in the tree stays cached, and goes like anything that nobody pins.
        """
        n_gone = self.n_gone_after(n_computed)
        if n_gone == lease.n_gone:
            return
        self._pin_nothing(lease)
        self._blocks.release(lease.table[: n_gone - lease.n_gone])
        del lease.table[: n_gone - lease.n_gone]
        lease.n_gone = n_gone
        self._loosen(lease)

    def retract(self, lease: BlockLease) -> None:
        """The step failed: what it put into the tree holds nothing. Only `release` may follow.

        Leases of one step are retracted and released in the reverse order of their slices: a later
        one may pin, or stand below, what an earlier one put into the tree.
        """
        if lease.n_fresh:
            self._take_back(lease, lease.n_fresh)
        lease.n_fresh = 0
        self._blocks.release(block for _, block in lease.duplicates)
        lease.duplicates.clear()

    def distrust(self, lease: BlockLease, unsound: Collection[int], tokens: Tokens) -> None:
        """From the first of the `unsound` blocks on nothing of the lease is shared any more.

        Only `release` may follow. A block leaves the tree, with all below it, when the last lease
        that pins it is distrusted: so every lease with an unsound block must be.
        """
        if lease.ref is None:
            self._pin_what_is_left(lease, tokens)
        shared = lease.shared
        first = next((i for i, block in enumerate(shared) if block in unsound), len(shared))
        self._take_back(lease, len(shared) - first)
        lease.n_shared -= len(shared) - first

    def touch(self, lease: BlockLease, now_ns: int) -> None:
        """Its path is in use, where it pins one."""
        if lease.ref is not None:
            self._tree.touch(lease.ref, now_ns)

    def release(self, lease: BlockLease, session_uses: int | None = None) -> None:
        """Unpin the lease's blocks: those in the tree stay cached, its own are free.

        `session_uses`: as for `RadixTree.unlock`; what left a sliding window is not told.
        """
        if lease.duplicates or lease.n_fresh:
            raise BrokenInvariant("a lease is released inside a step")
        self._leases.remove(lease)
        self._pin_nothing(lease, session_uses)
        self._blocks.release(lease.table)

    @property
    def position(self) -> tuple[int, int]:
        """Where the events stand now: how often some were taken, and how many came since.

        The publisher makes a batch of each lot that is taken, so the first of them is the seq of
        the batch that is being made.
        """
        return self._n_taken, len(self._events)

    def take_events(self) -> tuple[Event, ...]:
        """What changed since the last call, in order."""
        events = tuple(self._events)
        self._events.clear()
        self._n_taken += bool(events)
        return events

    def resident_keys(self) -> set[BlockKey]:
        """Keys of all blocks in the tree: what a perfect listener believes. For checks."""
        return set(self._key_by_block.values())

    def check(self) -> None:
        """Raises on a broken invariant. Between steps only. O(blocks)."""
        self._tree.check()
        users = dict.fromkeys(self._key_by_block, 1)
        for lease in self._leases:
            for block in lease.table:
                users[block] = users.get(block, 0) + 1
            if lease.ref is not None and self._tree.blocks_of(lease.ref) != lease.shared:
                raise BrokenInvariant("a lease shares other blocks than its path has")
        self._blocks.check(users)
        if len(self._key_by_block) != self._tree.n_blocks:
            raise BrokenInvariant("blocks in the tree and blocks with a key differ")
        unpinned = [block for one in self._leases if one.ref is None for block in one.shared]
        self._loose.check(block for block in unpinned if block in self._key_by_block)
        if not self._leases and self._tree.n_evictable != self._tree.n_blocks:
            raise BrokenInvariant("blocks are pinned though nobody holds a lease")

    def _pin(self, lease: BlockLease, tokens: Tokens) -> NodeRef[bytes] | None:
        """Pin the path of the lease for this step; None where the tree has it no more.

        It is still there if its last blocks are the ones that the lease holds: nobody else can have
        put those into the tree.
        """
        if lease.ref is not None or lease.is_cut:
            return lease.ref
        match = self._tree.match(self._path(tokens, lease.n_shared, lease.scope))
        is_there = match.length == lease.n_shared
        if is_there and list(match.blocks[lease.n_gone :]) == lease.shared:
            self._loose.drop(lease.shared)
            lease.ref = self._tree.lock(match)
        lease.is_cut = lease.ref is None
        return lease.ref

    def _pin_what_is_left(self, lease: BlockLease, tokens: Tokens) -> None:
        """Pin as much of the path as the tree still has in the blocks of the lease."""
        self._loose.drop(lease.shared)
        found = self._tree.match(self._path(tokens, lease.n_shared, lease.scope)).blocks
        pairs = enumerate(zip(found[lease.n_gone :], lease.shared, strict=False), lease.n_gone)
        lease.n_shared = next((at for at, (there, ours) in pairs if there != ours), len(found))
        match = self._tree.match(self._path(tokens, lease.n_shared, lease.scope))
        lease.ref = self._tree.lock(match)

    def _unpin(self, lease: BlockLease) -> None:
        """From pinning to holding loosely."""
        if lease.ref is not None:
            self._tree.unlock(lease.ref)
            lease.ref = None
            self._loosen(lease)

    def _pin_nothing(self, lease: BlockLease, session_uses: int | None = None) -> None:
        """Neither pin nor hold loosely: the table changes next, or goes."""
        if lease.ref is None:
            self._loose.drop(lease.shared)
        else:
            self._tree.unlock(lease.ref, session_uses)
            lease.ref = None

    def _loosen(self, lease: BlockLease) -> None:
        self._loose.add(block for block in lease.shared if block in self._key_by_block)

    def _take_back(self, lease: BlockLease, n: int) -> None:
        """The last `n` blocks of a pinned path leave the tree, but for what others pin."""
        if lease.ref is None:
            raise BrokenInvariant("blocks are taken back of a path that nobody pins")
        lost = self._tree.retract(lease.ref, n)
        self.counters.retracted += len(lost)
        self._blocks.release(lost)
        self._forget(lost)

    def _evict_until_free(self, n: int) -> None:
        """Until `n` blocks are free: evicting what a lease holds loosely frees nothing yet."""
        evicted: list[int] = []
        while self._blocks.n_free < n:
            some = self._tree.evict(n - self._blocks.n_free)
            if not some:
                raise BrokenInvariant(f"{n} blocks wanted, {self._blocks.n_free} can be had")
            self._blocks.release(some)
            evicted += some
        self.counters.evicted += len(evicted)
        self._forget(evicted)

    def _reusable(self, tokens: Tokens, scope: RequestScope) -> list[bytes]:
        """Symbols of the full blocks that leave at least one token to compute."""
        return self._path(tokens, max(0, len(tokens) - 1) // self.block_size, scope)

    def _path(self, tokens: Tokens, n_blocks: int, scope: RequestScope) -> list[bytes]:
        """Symbols of the first blocks, from the root."""
        symbols = self._symbols(tokens[: n_blocks * self.block_size])
        if scope is not UNSCOPED and symbols:
            symbols[0] = scope.mark + symbols[0]
        return symbols

    def _symbols(self, tokens: Tokens) -> list[bytes]:
        raw, block_bytes = tokens.tobytes(), 4 * self.block_size
        return [raw[at : at + block_bytes] for at in range(0, len(raw), block_bytes)]

    def _store(self, lease: BlockLease, keys: Keys, stored: Sequence[int], tokens: Tokens) -> None:
        """Blocks that entered the tree: the last of a run with these keys and tokens."""
        if not stored:
            return
        n_before = len(keys) - len(stored)
        parent_of_first = BlockKey(int(keys[n_before - 1])) if n_before else lease.last_key
        for block, key in zip(stored, keys[n_before:].tolist(), strict=True):
            self._key_by_block[block] = BlockKey(key)
        self._blocks.retain(stored)
        self.counters.stored += len(stored)
        if not self._events_carry_tokens:
            self._events.append(BlocksStored(parent_of_first, keys[n_before:]))
            return
        # A copy: the sequence's own array grows and goes.
        stored_tokens = tokens[n_before * self.block_size :].copy()
        self._events.append(
            BlocksStored(parent_of_first, keys[n_before:], tokens=stored_tokens, scope=lease.scope)
        )

    def _forget(self, blocks: Sequence[int]) -> None:
        """Blocks that left the tree: their keys go, and listeners hear of it."""
        if not blocks:
            return
        keys = [self._key_by_block.pop(block) for block in blocks]
        self._loose.forget(blocks)
        self._events.append(BlocksRemoved(np.array(keys, dtype=np.uint64)))
