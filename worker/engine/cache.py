"""Prefix cache: which KV blocks hold which tokens, and the events that say so.

Owns the `RadixTree`, the `BlockAllocator` and the key of each cached block; a running sequence
holds a `BlockLease`. Blocks enter the tree when their tokens are scheduled, so that a request of
the same step already shares them; `retract` takes them back when the step fails. Sharing compares
tokens, and before a prompt's first ones its scope: two scopes part at the tree's root. Keys are
only names for the router. Never chooses who runs. Called by the scheduler; one thread, no torch.

A lease while its sequence runs:

    table:   [ shared with the tree ......... | own, not full yet ]
                                    n_shared ^
    `duplicates` are own blocks inside the shared part: another sequence's copy is in the tree, and
    this step still writes to ours. `settle` swaps them when the step is done.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Keys, Tokens
from radixroute.radix.keys.block_keys import extend_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.radix.tree.eviction import LRU, eviction_named
from radixroute.radix.tree.radix_tree import NodeRef, RadixTree
from radixroute.worker.engine.blocks import BlockAllocator


@dataclass(slots=True, eq=False)
class BlockLease:
    """One sequence's blocks. Only `PrefixCache` changes it."""

    ref: NodeRef[bytes]
    table: list[int]
    n_shared: int  # leading blocks that are in the tree, pinned by `ref`
    last_key: BlockKey | None  # of the last shared block
    scope: RequestScope
    seed: np.uint64  # of the keys of that scope
    n_fresh: int = 0  # shared blocks that entered the tree in the step being made
    duplicates: list[tuple[int, int]] = field(default_factory=list)  # table index, block in tree


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
    ) -> None:
        self.block_size = block_size
        self._events_carry_tokens = events_carry_tokens  # those of stored blocks
        self.counters = CacheCounters()
        self._scope = scope
        self._seed = scope.seed  # of requests that add nothing
        self._blocks = BlockAllocator(n_blocks)
        policy = eviction_named(eviction_policy, n_blocks, block_size)
        self._tree: RadixTree[bytes] = RadixTree(policy)
        self._key_by_block: dict[int, BlockKey] = {}
        self._leases: set[BlockLease] = set()
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
        """Blocks that are free or could be by eviction."""
        return self._blocks.n_free + self._tree.n_evictable

    def blocks_for(self, n_tokens: int) -> int:
        return -(-n_tokens // self.block_size)

    def cached_tokens(self, tokens: Tokens, scope: RequestScope = UNSCOPED) -> int:
        """Leading tokens a sequence would not have to compute. Pure. O(blocks)."""
        return self._tree.match(self._reusable(tokens, scope)).length * self.block_size

    def acquire(self, tokens: Tokens, scope: RequestScope = UNSCOPED) -> BlockLease:
        """A lease of the longest cached prefix, pinned; at least one token stays uncovered."""
        match = self._tree.match(self._reusable(tokens, scope))
        table = list(match.blocks)
        self._blocks.retain(table)
        seed = self._seed if scope is UNSCOPED else self._scope.seed_of(scope)
        last_key = self._key_of_last(table)
        lease = BlockLease(self._tree.lock(match), table, len(table), last_key, scope, seed)
        self._leases.add(lease)
        return lease

    def can_grow(self, lease: BlockLease, n_tokens: int) -> bool:
        return self.blocks_for(n_tokens) - len(lease.table) <= self.n_available

    def grow(self, lease: BlockLease, n_tokens: int) -> None:
        """Give the lease blocks for its first `n_tokens` tokens, evicting where none is free."""
        n_new = self.blocks_for(n_tokens) - len(lease.table)
        if n_new <= 0:
            return
        n_lacking = n_new - self._blocks.n_free
        if n_lacking > 0:
            evicted = self._tree.evict(n_lacking)
            self.counters.evicted += len(evicted)
            self._forget(evicted)
        lease.table.extend(self._blocks.allocate(n_new))

    def publish(self, lease: BlockLease, tokens: Tokens, n_tokens: int) -> None:
        """Put the blocks filled by the first `n_tokens` tokens into the tree."""
        full = n_tokens // self.block_size
        if full <= lease.n_shared:
            return
        filled = tokens[lease.n_shared * self.block_size : full * self.block_size]
        keys = extend_keys(lease.last_key, filled, self.block_size, lease.seed)
        own = lease.table[lease.n_shared : full]
        symbols = self._symbols(filled)
        if not lease.n_shared and lease.scope is not UNSCOPED:
            symbols[0] = lease.scope.mark + symbols[0]
        extension = self._tree.extend(lease.ref, symbols, own)
        # A reference of our own until `settle`: the step still writes to our copy.
        self._blocks.retain(extension.existing)
        lease.duplicates.extend(enumerate(extension.existing, start=lease.n_shared))
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

    def retract(self, lease: BlockLease) -> None:
        """The step failed: what it put into the tree holds nothing. Only `release` may follow.

        Leases of one step are retracted and released in the reverse order of their slices: a later
        one may pin, or stand below, what an earlier one put into the tree.
        """
        lost = self._tree.retract(lease.ref, lease.n_fresh)
        self.counters.retracted += len(lost)
        self._forget(lost)
        lease.n_fresh = 0
        self._blocks.release(block for _, block in lease.duplicates)
        lease.duplicates.clear()

    def distrust(self, lease: BlockLease, unsound: Collection[int]) -> None:
        """From the first of the `unsound` blocks on nothing of the lease is shared any more.

        Only `release` may follow. A block leaves the tree, with all below it, when the last lease
        that pins it is distrusted: so every lease with an unsound block must be.
        """
        shared = lease.table[: lease.n_shared]
        first = next((i for i, block in enumerate(shared) if block in unsound), lease.n_shared)
        lost = self._tree.retract(lease.ref, lease.n_shared - first)
        self.counters.retracted += len(lost)
        self._forget(lost)
        lease.n_shared = first

    def touch(self, lease: BlockLease, now_ns: int) -> None:
        self._tree.touch(lease.ref, now_ns)

    def release(self, lease: BlockLease) -> None:
        """Unpin the lease's blocks: those in the tree stay cached, its own are free."""
        if lease.duplicates or lease.n_fresh:
            raise BrokenInvariant("a lease is released inside a step")
        self._leases.remove(lease)
        self._tree.unlock(lease.ref)
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
            if any(block not in self._key_by_block for block in lease.table[: lease.n_shared]):
                raise BrokenInvariant("a shared block has no key")
        self._blocks.check(users)
        if len(self._key_by_block) != self._tree.n_blocks:
            raise BrokenInvariant("blocks in the tree and blocks with a key differ")
        if not self._leases and self._tree.n_evictable != self._tree.n_blocks:
            raise BrokenInvariant("blocks are pinned though nobody holds a lease")

    def _reusable(self, tokens: Tokens, scope: RequestScope) -> list[bytes]:
        """Symbols of the full blocks that leave at least one token to compute."""
        full = max(0, len(tokens) - 1) // self.block_size
        symbols = self._symbols(tokens[: full * self.block_size])
        if scope is not UNSCOPED and symbols:
            symbols[0] = scope.mark + symbols[0]
        return symbols

    def _symbols(self, tokens: Tokens) -> list[bytes]:
        raw, block_bytes = tokens.tobytes(), 4 * self.block_size
        return [raw[at : at + block_bytes] for at in range(0, len(raw), block_bytes)]

    def _key_of_last(self, table: Sequence[int]) -> BlockKey | None:
        return self._key_by_block[table[-1]] if table else None

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
        """Blocks that left the tree: the cache's reference and their keys go."""
        if not blocks:
            return
        keys = [self._key_by_block.pop(block) for block in blocks]
        self._blocks.release(blocks)
        self._events.append(BlocksRemoved(np.array(keys, dtype=np.uint64)))
