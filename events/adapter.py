"""Turns a foreign engine's events into ours: engine hashes into block keys we compute ourselves.

Owns one holder's map (group, engine hash) -> block, which parents and removals need, and the copies
counted on it. Keys come from token ids, salted like our own; whatever cannot be keyed truthfully
is dropped under a named counter: less credit is a worse choice, false credit a wrong belief.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from radixroute.events.errors import LocalEventError
from radixroute.events.foreign import (
    MAIN_KINDS,
    EngineHash,
    ForeignCleared,
    ForeignEvent,
    ForeignRemoved,
    ForeignStored,
    tier_of,
)
from radixroute.events.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Tier
from radixroute.radix.keys import extend_keys
from radixroute.radix.scope import Scope


@dataclass(slots=True)
class AdapterCounters:
    """Events, or blocks where it says so, that had no translation, by reason."""

    other_groups: int = 0  # of a KV group that is no whole prefix
    unknown_media: int = 0  # shared between workers, or a name nobody knows
    not_local: int = 0  # describes a shared pool
    other_block_sizes: int = 0  # also a trailing partial page
    wrong_lengths: int = 0  # tokens do not fill the blocks
    self_referring: int = 0  # hashes repeat, or contain their own parent
    unknown_parents: int = 0  # stored before we listened, or dropped here
    unnamed_loras: int = 0  # a number that means nothing outside that process
    conflicting_hashes: int = 0  # one hash for two different prefixes
    content_blocks: int = 0  # blocks that hold more than their tokens say (images, embeddings)
    unresolved_blocks: int = 0  # blocks of placeholders whose hash was never seen
    unknown_removals: int = 0  # blocks removed that we do not hold


@dataclass(slots=True)
class _Block:
    key: BlockKey
    parent: BlockKey | None
    scope: Scope
    copies: list[int]  # by tier


_BlockId = tuple[int | None, EngineHash]


class EngineAdapter:
    """One (worker, rank). `translate` is the only verb that changes it."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._blocks: dict[_BlockId, _Block] = {}
        self._other_groups: set[int] = set()
        self.counters = AdapterCounters()

    @property
    def n_blocks(self) -> int:
        """Engine hashes that stand for a block held somewhere."""
        return len(self._blocks)

    def translate(self, event: ForeignEvent) -> tuple[Event, ...]:
        """Our events for one of theirs, in order. O(tokens) for a store."""
        match event:
            case ForeignStored():
                return tuple(self._store(event))
            case ForeignRemoved():
                return tuple(self._remove(event))
            case ForeignCleared():
                self._blocks.clear()
                return (CacheCleared(),)

    def check(self) -> None:
        """Raises on a broken invariant."""
        for block in self._blocks.values():
            if min(block.copies) < 0 or not any(block.copies):
                raise LocalEventError("a block is remembered that is held nowhere")

    # -- stores ------------------------------------------------------------------------------------

    def _store(self, event: ForeignStored) -> Iterator[Event]:
        if event.kind is not None and event.group is not None:
            self._learn_group(event.group, event.kind)
        tier = self._tier_of(event, event.kind)
        if tier is None or not event.hashes:
            return
        if not len(event.token_ids) and event.block_size == 0:
            yield from self._store_again(event, tier)
            return
        if not self._is_well_formed(event):
            return
        scope, parent = self._place(event)
        if scope is not None:
            yield from self._store_new(event, tier, scope, parent)

    def _store_new(
        self, event: ForeignStored, tier: Tier, scope: Scope, parent: BlockKey | None
    ) -> Iterator[Event]:
        n_blocks = self._keyable_blocks(event, scope)
        tokens = event.token_ids[: n_blocks * event.block_size]
        keys = extend_keys(parent, tokens, event.block_size, scope.seed)
        names = [(event.group, engine_hash) for engine_hash in event.hashes[:n_blocks]]
        chain: list[BlockKey | None] = [parent, *(BlockKey(key) for key in keys.tolist())]
        known = [self._blocks.get(name) for name in names]
        if any(b is not None and b.key != k for b, k in zip(known, chain[1:], strict=True)):
            self.counters.conflicting_hashes += 1
            return
        for name, block, before, key in zip(names, known, chain, chain[1:], strict=False):
            if block is None and key is not None:
                block = self._blocks[name] = _Block(key, before, scope, [0] * len(Tier))
            if block is not None:
                block.copies[tier] += 1
        if n_blocks:
            yield BlocksStored(parent, keys, tier)

    def _store_again(self, event: ForeignStored, tier: Tier) -> Iterator[Event]:
        """A placeholder: blocks known by hash alone reached another tier."""
        for engine_hash in event.hashes:
            block = self._blocks.get((event.group, engine_hash))
            if block is None:
                self.counters.unresolved_blocks += 1
                continue
            block.copies[tier] += 1
            yield BlocksStored(block.parent, np.array([block.key], dtype=np.uint64), tier)

    def _is_well_formed(self, event: ForeignStored) -> bool:
        hashes = set(event.hashes)
        if event.block_size != self._scope.block_size:
            self.counters.other_block_sizes += 1
        elif len(event.token_ids) != len(event.hashes) * event.block_size:
            self.counters.wrong_lengths += 1
        elif len(hashes) < len(event.hashes) or event.parent in hashes:
            self.counters.self_referring += 1
        elif event.lora_id is not None and event.lora_name is None:
            self.counters.unnamed_loras += 1
        else:
            return True
        return False

    def _place(self, event: ForeignStored) -> tuple[Scope | None, BlockKey | None]:
        """What to salt the keys with, and the key they follow. Children inherit both."""
        if event.parent is not None:
            block = self._blocks.get((event.group, event.parent))
            if block is None:
                self.counters.unknown_parents += 1
                return None, None
            return block.scope, block.key
        lora, salt = event.lora_name or "", event.cache_salt or _salt_of(event) or ""
        return replace(self._scope, lora=lora, tenant_salt=salt), None

    def _keyable_blocks(self, event: ForeignStored, scope: Scope) -> int:
        """Leading blocks whose tokens, LoRA and salt say all there is about them."""
        named = {scope.lora, scope.tenant_salt}
        for index, extra in enumerate(event.extra_keys[: len(event.hashes)]):
            if extra.has_content or not named.issuperset(extra.texts):
                self.counters.content_blocks += len(event.hashes) - index
                return index
        return len(event.hashes)

    # -- removals ----------------------------------------------------------------------------------

    def _remove(self, event: ForeignRemoved) -> Iterator[Event]:
        tier = self._tier_of(event, None)
        if tier is None:
            return
        keys = []
        for engine_hash in event.hashes:
            block = self._blocks.get((event.group, engine_hash))
            if block is None or block.copies[tier] == 0:
                self.counters.unknown_removals += 1
                continue
            keys.append(block.key)
            block.copies[tier] -= 1
            if not any(block.copies):
                del self._blocks[event.group, engine_hash]
        if keys:
            yield BlocksRemoved(np.array(keys, dtype=np.uint64), tier)

    # -- both --------------------------------------------------------------------------------------

    def _learn_group(self, group: int, kind: str) -> None:
        if kind not in MAIN_KINDS:
            self._other_groups.add(group)

    def _tier_of(self, event: ForeignStored | ForeignRemoved, kind: str | None) -> Tier | None:
        tier = tier_of(event.medium)
        is_other = event.group in self._other_groups
        if is_other or (kind is not None and kind not in MAIN_KINDS):
            self.counters.other_groups += 1
        elif event.locality not in (None, "LOCAL"):
            self.counters.not_local += 1
        elif tier is None:
            self.counters.unknown_media += 1
        else:
            return tier
        return None


def _salt_of(event: ForeignStored) -> str | None:
    """vLLM hashes the salt into a prompt's first block, after the LoRA name and untagged."""
    if not event.extra_keys:
        return None
    texts = list(event.extra_keys[0].texts)
    if event.lora_name in texts:
        texts.remove(event.lora_name)
    return texts[-1] if texts else None
