"""Believed cache: what an engine that tells nothing of its cache has cached, as far as one knows.

Blocks of prompts that were sent there and of answers that came back, in the order in which an LRU
cache would give them up, bounded by a number and by an age. What answers tell of cached tokens
corrects it: where less was found than believed, the block that was missing is gone and with it all
that was not used since, which an LRU cache gave up before; so many blocks as are left then are all
that it has room for. Where more was found, it has more room. Gives ordinary events.

Owns the order, the ages and what was learned. No clock: times come in. On the event loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from math import gcd
from typing import Final, TypeAlias

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Keys, Tokens
from radixroute.radix.keys.block_keys import as_tokens, block_keys, extend_keys
from radixroute.radix.keys.scope import RequestScope, Scope
from radixroute.worker.companions.dialects.dialect import Heard

DEFAULT_BLOCKS: Final = 16_384  # of an engine that does not say how many it has
MIN_ROOM: Final = 64  # blocks; fewer are not believed of any engine
_GROWTH: Final = 8  # room grows by a part of it at a time
_STEP: Final = 16  # tokens: blocks of engines that are larger than ours are multiples


@dataclass(slots=True, eq=False)
class Belief:
    """What is believed of one request. Only `BelievedCache` reads or changes it."""

    seed: np.uint64
    keys: list[int]  # of its full blocks
    tail: list[int]  # tokens after them, output that came since among them
    n_prompt: int  # tokens, output of earlier attempts included
    stamps: list[int]  # of the leading blocks that were believed when it was sent
    is_held: bool = False  # its prompt is believed to be cached now


# One block: stamp, time of its last use in ns, and parent, which is used whenever it is, and a
# little later. A bare tuple: each request makes one of each of its blocks twice.
_Held: TypeAlias = tuple[int, int, int | None]


@dataclass(slots=True)
class BeliefCounters:
    """What was learned; tokens are those of prompts."""

    stored: int = 0  # blocks
    removed: int = 0  # blocks, whatever for
    told_less: int = 0  # answers that found less than believed
    told_more: int = 0


class _Grain:
    """How the engine cuts: tokens of its own blocks, by what it told. 1: it does not show.

    What is found is whole blocks: their size divides it, and is more than what was left out of a
    prompt that was wholly cached.
    """

    def __init__(self, could_be: int, found: int) -> None:
        self._divisor = 0
        self._left_out = max(0, could_be - found) if found else 0
        self.tokens = 1
        self.told(found)

    def told(self, cached_tokens: int) -> None:
        divisor = gcd(self._divisor, cached_tokens)
        if divisor == self._divisor:
            return
        self._divisor = divisor
        sizes = range(_STEP, divisor + 1, _STEP) if self._left_out else ()
        fit = (size for size in sizes if divisor % size == 0 and size > self._left_out)
        self.tokens = next(fit, 1)


class BelievedCache:
    """One engine's. A request is `sent`, and all that is heard of it is what the engine `took`;
    cancelled ones have `ended`. Each returns the events that it leads to."""

    def __init__(
        self, scope: Scope, capacity: int, lifetime_ns: int, canary: tuple[int, int] = (0, 0)
    ) -> None:
        """`capacity`: blocks at most; 0: not known. `canary`: tokens of a prompt that could have
        been found, and how many of them were."""
        self._scope = scope
        self._size = scope.block_size
        self._capacity = max(MIN_ROOM, capacity or DEFAULT_BLOCKS)
        self._room = self._capacity
        self._lifetime_ns = lifetime_ns
        self._held: dict[int, _Held] = {}  # by key, used longest ago first
        self._stamp = 0
        self._grain = _Grain(*canary)
        self.counters = BeliefCounters()

    @property
    def n_blocks(self) -> int:
        return len(self._held)

    @property
    def room(self) -> int:
        """Blocks that it is believed to have room for."""
        return self._room

    def sent(self, tokens: Tokens, scope: RequestScope) -> Belief:
        """A prompt goes to the engine. O(tokens)."""
        seed = self._scope.seed_of(scope)
        keys: list[int] = block_keys(tokens, self._size, seed).tolist()
        stamps: list[int] = []
        for key in keys:
            held = self._held.get(key)
            if held is None:
                break
            stamps.append(held[0])
        tail = tokens[len(keys) * self._size :].tolist()
        return Belief(seed, keys, tail, len(tokens), stamps)

    def took(self, belief: Belief, heard: Heard, now_ns: int) -> Sequence[Event]:
        """With the first token its prompt is computed; with its end, output is cached as well."""
        if belief.is_held and heard.finish is None and heard.cached_tokens is None:
            belief.tail += heard.token_ids
            return ()
        events: list[Event] = []
        if heard.token_ids:
            belief.tail.extend(heard.token_ids)
            if not belief.is_held:
                belief.is_held = True
                events += self._hold(belief.keys, now_ns)
        if heard.finish is not None:
            events += self.ended(belief, now_ns)
        if heard.cached_tokens is not None:
            events += self._told(belief, heard.cached_tokens)
        return events

    def ended(self, belief: Belief, now_ns: int) -> list[Event]:
        """Nothing more comes. The last token was only sampled: no block holds it."""
        if not belief.is_held:
            return []
        n_full = (len(belief.tail) - 1) // self._size if belief.tail else 0
        if n_full:
            tokens = as_tokens(belief.tail[: n_full * self._size])
            last = BlockKey(belief.keys[-1]) if belief.keys else None
            belief.keys += extend_keys(last, tokens, self._size, belief.seed).tolist()
            del belief.tail[: n_full * self._size]
        return self._hold(belief.keys, now_ns)

    def expire(self, now_ns: int) -> list[Event]:
        """What was not used for long. O(blocks that go)."""
        gone = []
        for key, (_, used_ns, _) in self._held.items():
            if now_ns - used_ns <= self._lifetime_ns:
                break
            gone.append(key)
        return self._remove(gone)

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        if len(self._held) > self._room:
            raise BrokenInvariant("more blocks are believed than there is room for")
        before = 0
        for stamp, _, parent in self._held.values():
            if stamp <= before:
                raise BrokenInvariant("believed blocks are out of order")
            before = stamp
            if parent is not None and self._held.get(parent, (0, 0, None))[0] < stamp:
                raise BrokenInvariant("a block is believed and the one before it is not")

    # -- inside

    def _told(self, belief: Belief, cached_tokens: int) -> list[Event]:
        """So much of what was sent was found there."""
        self._grain.told(cached_tokens)
        could_be = (belief.n_prompt - 1) // self._size
        n_believed = min(len(belief.stamps), could_be)
        if cached_tokens >= (n_believed + 1) * self._size:
            self.counters.told_more += 1
            n_more = cached_tokens // self._size - n_believed
            more = self._room + max(self._room // _GROWTH, n_more)
            self._room = min(self._capacity, more)
            return []
        slack = max(self._grain.tokens, self._size)
        if n_believed * self._size - cached_tokens < slack:
            return []
        self.counters.told_less += 1
        gone = self._drop_until(belief.stamps[cached_tokens // self._size])
        self._room = max(MIN_ROOM, len(self._held))
        return gone

    def _hold(self, keys: Sequence[int], now_ns: int) -> list[Event]:
        """They are cached and were used just now: the last of them longest ago."""
        keys = keys[: self._in_whole_grains(len(keys))]
        n_known = 0
        while n_known < len(keys) and keys[n_known] in self._held:
            n_known += 1
        new = keys[n_known : max(n_known, min(len(keys), self._room))]
        events: list[Event] = []
        for key in keys[:n_known]:
            del self._held[key]
        used = keys[: n_known + len(new)]
        stamps = range(self._stamp + 1, self._stamp + 1 + len(used))
        facts = zip(stamps, repeat(now_ns), reversed([None, *used[:-1]]))
        self._held.update(zip(reversed(used), facts, strict=True))
        self._stamp += len(used)
        if new:
            parent = BlockKey(keys[n_known - 1]) if n_known else None
            events.append(BlocksStored(parent, _array(new)))
            self.counters.stored += len(new)
        n_over = len(self._held) - self._room
        if n_over > 0:
            oldest = iter(self._held)
            events += self._remove([next(oldest) for _ in range(n_over)])
        return events

    def _in_whole_grains(self, n_blocks: int) -> int:
        """Of an engine whose blocks are larger than ours only whole ones are cached."""
        grain = self._grain.tokens
        if grain <= self._size:
            return n_blocks
        return n_blocks * self._size // grain * grain // self._size

    def _drop_until(self, stamp: int) -> list[Event]:
        """All that was used last then, or before."""
        gone = []
        for key, held in self._held.items():
            if held[0] > stamp:
                break
            gone.append(key)
        return self._remove(gone)

    def _remove(self, keys: list[int]) -> list[Event]:
        """Children stand before their parents here, and go first."""
        for key in keys:
            del self._held[key]
        self.counters.removed += len(keys)
        return [BlocksRemoved(_array(keys))] if keys else []


def _array(keys: Sequence[int]) -> Keys:
    return np.array(keys, np.uint64)
