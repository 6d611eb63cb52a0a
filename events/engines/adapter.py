"""Turns a foreign engine's events into ours: engine hashes into block keys we compute ourselves.

Owns one holder's `NameTable`, which parents and removals need. Keys come from token ids, salted
like our own; whatever cannot be keyed truthfully is dropped under a named counter: less credit is a
worse choice, false credit a wrong belief.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from radixroute.events.engines.flat import FlatEvents
from radixroute.events.engines.foreign import (
    MAIN_KINDS,
    EngineHash,
    ForeignCleared,
    ForeignEvent,
    ForeignRemoved,
    ForeignStored,
    tier_of,
)
from radixroute.events.engines.names import DEFAULT_BYTES, NameTable
from radixroute.events.engines.names_layout import (
    MAX_GROUP,
    NO_ROOM,
    STORED,
    TOLD,
)
from radixroute.events.wire.compat import salt_of, scope_of
from radixroute.events.wire.packed import PackedEvents, write_packed
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import BlockKey, Keys, Tier
from radixroute.radix.index.layout import PACKED_HEAD
from radixroute.radix.keys.block_keys import extend_keys
from radixroute.radix.keys.scope import RequestScope, Scope


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
    too_many_names: int = 0  # no room within the bytes for names
    # Blocks stored again that were held: as often as copies are counted (held until a clear then),
    # or at all, where one copy is kept.
    uncounted_copies: int = 0


class _Chain(NamedTuple):
    """Blocks in a row: what a name table is given of a store."""

    group: int | None
    names: Sequence[EngineHash]
    parent: BlockKey | None
    keys: Keys
    scope: Scope
    tier: Tier

    def part(self, start: int, end: int) -> "_Chain":
        parent = self.parent if start == 0 else BlockKey(int(self.keys[start - 1]))
        return self._replace(names=self.names[start:end], parent=parent, keys=self.keys[start:end])


class EngineAdapter:
    """One (worker, rank). `translate` and `translate_all` are the only verbs that change it."""

    def __init__(self, scope: Scope, max_name_bytes: int = DEFAULT_BYTES) -> None:
        self._scope = scope
        # What salts prompts that bring nothing of their own.
        self._root = replace(scope, lora="", tenant_salt="", tenant="")
        self._names = NameTable(self._root, max_name_bytes)
        self._last_seed = scope, scope.seed
        self._other_groups: set[int] = set()
        self.counters = AdapterCounters()

    @property
    def n_blocks(self) -> int:
        """Engine hashes that stand for a block held somewhere."""
        return len(self._names)

    @property
    def copies_on_device(self) -> int:
        """Of all blocks, as counted. More than the engine has room for: not every store was one."""
        return self._names.n_on_device

    def keep_one_copy(self) -> tuple[Event, ...]:
        """Forgets what is held; from now on the first removal of a block ends what was stored.

        For engines that tell of blocks again when they are only used again, which looks like a
        second copy (vLLM's full report mode) and is never taken back. Where there are second
        copies, too little is believed once the first of them goes.
        """
        self._names.keep_one_copy()
        return (CacheCleared(),)

    def translate(self, event: ForeignEvent) -> tuple[Event, ...]:
        """Our events for one of theirs, in order. O(tokens) for a store."""
        match event:
            case ForeignStored():
                return tuple(self._store(event))
            case ForeignRemoved():
                return tuple(self._remove(event))
            case ForeignCleared():
                self._names.clear()
                return (CacheCleared(),)

    def translate_all(self, events: Sequence[ForeignEvent]) -> Sequence[Event]:
        """Our events for a batch of theirs: `translate` of each, much faster for flat ones."""
        if isinstance(events, FlatEvents):
            return PackedEvents(self._translate_flat(events))
        return tuple(ours for event in events for ours in self.translate(event))

    def check(self) -> None:
        """Raises on a broken invariant."""
        self._names.check()

    def _translate_flat(self, events: FlatEvents) -> Keys:
        """Packed. The kernel takes what is plain, `translate` the rest, one by one."""
        names = self._names
        # At most an event a block: that of a placeholder.
        out = np.empty(events.n_hashes * (PACKED_HEAD + 1) + len(events) * PACKED_HEAD, np.uint64)
        start = n_out = 0
        while True:
            if names.make_room(events.n_hashes, events.widest):
                start, n_out, n_unknown, n_other = names.translate(events, start, out, n_out)
                self.counters.unknown_removals += n_unknown
                self.counters.other_groups += n_other
            if start == len(events.words):
                break
            for event in self.translate(events.event_at(start)):
                n_out = write_packed(event, out, n_out)
            start = events.after(start)
        return out[:n_out]

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
        keys = extend_keys(parent, tokens, event.block_size, self._seed_of(scope))
        if n_blocks:
            chain = _Chain(event.group, event.hashes[:n_blocks], parent, keys, scope, tier)
            yield from self._store_chain(chain)

    def _store_chain(self, chain: "_Chain") -> Iterator[Event]:
        match self._names.store(*chain):
            case outcome if outcome == STORED:
                yield BlocksStored(chain.parent, chain.keys, chain.tier)
            case outcome if outcome == TOLD:
                yield from self._store_untold(chain)
            case outcome if outcome == NO_ROOM:
                self.counters.too_many_names += 1
            case _:
                self.counters.conflicting_hashes += 1

    def _store_untold(self, chain: "_Chain") -> Iterator[Event]:
        """Runs of those that are not held as often as they can be."""
        start, group, tier = 0, chain.group, chain.tier
        told = [self._names.told(group, name, tier) for name in chain.names]
        for end, key in enumerate([*told, BlockKey(0)]):
            if key is None:
                continue
            if start < end:
                yield from self._store_chain(chain.part(start, end))
            if end < len(told):
                is_it = key == int(chain.keys[end])
                self.counters.uncounted_copies += is_it
                self.counters.conflicting_hashes += not is_it
                if not is_it:
                    return
            start = end + 1

    def _seed_of(self, scope: Scope) -> np.uint64:
        """A digest of all its fields: kept for the scope used last, which is nearly always this."""
        last, seed = self._last_seed
        if scope is not last:
            seed = scope.seed
            self._last_seed = scope, seed
        return seed

    def _store_again(self, event: ForeignStored, tier: Tier) -> Iterator[Event]:
        """A placeholder: blocks known by hash alone reached another tier."""
        for name in event.hashes:
            block = self._names.find(event.group, name)
            if block is None:
                self.counters.unresolved_blocks += 1
                continue
            keys = np.array([block.key], dtype=np.uint64)
            chain = _Chain(event.group, (name,), block.parent, keys, block.scope, tier)
            yield from self._store_chain(chain)

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
            block = self._names.find(event.group, event.parent)
            if block is None:
                self.counters.unknown_parents += 1
                return None, None
            return block.scope, block.key
        lora, salt = event.lora_name or "", event.cache_salt or _salt_of(event) or ""
        if not lora and not salt:
            return self._root, None
        return self._root.within(scope_of(lora, salt)), None

    def _keyable_blocks(self, event: ForeignStored, scope: Scope) -> int:
        """Leading blocks whose tokens, LoRA and salt say all there is about them."""
        salt = salt_of(RequestScope(salt=scope.tenant_salt, tenant=scope.tenant))
        named = {scope.lora, salt}
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
        keys = self._names.remove(event.group, event.hashes, tier)
        self.counters.unknown_removals += len(event.hashes) - len(keys)
        if keys:
            yield BlocksRemoved(np.array(keys, dtype=np.uint64), tier)

    # -- both --------------------------------------------------------------------------------------

    def _learn_group(self, group: int, kind: str) -> None:
        if kind not in MAIN_KINDS:
            self._other_groups.add(group)
            self._names.leave_out(group)

    def _tier_of(self, event: ForeignStored | ForeignRemoved, kind: str | None) -> Tier | None:
        tier = tier_of(event.medium)
        group = event.group
        is_beyond = group is not None and group > MAX_GROUP  # no engine has so many
        is_other = is_beyond or group in self._other_groups
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
