"""Conversations over real prefix caches, for `bench.compat`: events as an engine tells them.

Each chat opens with one of a few system prompts and grows; it mostly stays on its worker. Caches
are too small for all of it, so old turns are evicted. What is resident afterwards is the truth.
Seeded: the same events each time.
"""

import random
from dataclasses import dataclass

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.worker.engine.cache import PrefixCache

BLOCK_SIZE = 16
_VOCABULARY = 32_000
_SYSTEM_PROMPTS = 4
_SYSTEM_TOKENS = 1024
_LONGEST = 6000
_SCOPE = Scope("chats", BLOCK_SIZE)


@dataclass(slots=True)
class Chat:
    """One conversation so far."""

    home: int
    tokens: Tokens


class ChatWorkload:
    """A few caches and the chats that fill them."""

    def __init__(self, workers: int, blocks: int, chats: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._choice = random.Random(f"compat/{seed}")
        self.caches = [
            PrefixCache(blocks, BLOCK_SIZE, _SCOPE, events_carry_tokens=True)
            for _ in range(workers)
        ]
        self._systems = [self.fresh(_SYSTEM_TOKENS) for _ in range(_SYSTEM_PROMPTS)]
        self.chats = [self._opened(number % workers) for number in range(chats)]
        self._ended: list[Tokens] = []  # what evictions find first
        self.stored = self.removed = self._turns = 0

    def fresh(self, n: int) -> Tokens:
        """Tokens nobody has seen."""
        return self._rng.integers(0, _VOCABULARY, n).astype(np.uint32)

    def turn(self) -> tuple[int, tuple[Event, ...]]:
        """One chat goes on: the worker it ran on, and what happened to the cache there."""
        number = self._choice.randrange(len(self.chats))
        chat = self.chats[number]
        if len(chat.tokens) > _LONGEST:
            self._ended.append(chat.tokens)
            chat = self.chats[number] = self._opened(chat.home)
        chat.tokens = np.append(chat.tokens, self.fresh(self._choice.randrange(40, 600)))
        worker = chat.home
        if self._choice.random() < 0.1:  # the balance is worth more than the cache
            worker = self._choice.randrange(len(self.caches))
        return worker, self.serve(worker, chat.tokens)

    def serve(self, worker: int, tokens: Tokens) -> tuple[Event, ...]:
        """One request, as the scheduler would handle it alone."""
        cache = self.caches[worker]
        self._turns += 1
        lease = cache.acquire(tokens)
        cache.grow(lease, len(tokens))
        cache.publish(lease, tokens, len(tokens))
        cache.settle(lease)
        cache.touch(lease, self._turns)
        cache.release(lease)
        events = cache.take_events()
        for event in events:
            self.stored += len(event.keys) if isinstance(event, BlocksStored) else 0
            self.removed += len(event.keys) if isinstance(event, BlocksRemoved) else 0
        return events

    def prompts(self, n: int) -> list[Tokens]:
        """Chats as they stand, cut, gone on and changed in the middle; strangers among them."""
        known = [chat.tokens for chat in self.chats] + self._ended[-len(self.chats) :]
        return [self._varied(self._choice.choice(known)) for _ in range(n)]

    def overlaps(self, tokens: Tokens) -> list[int]:
        """Leading blocks each worker holds: counted, not asked of any index."""
        keys = block_keys(tokens, BLOCK_SIZE, _SCOPE.seed).tolist()
        found = []
        for cache in self.caches:
            resident = cache.resident_keys()
            found.append(next((i for i, k in enumerate(keys) if k not in resident), len(keys)))
        return found

    def _opened(self, home: int) -> Chat:
        return Chat(home, self._choice.choice(self._systems).copy())

    def _varied(self, tokens: Tokens) -> Tokens:
        kind, at = self._choice.random(), self._choice.randrange(1, len(tokens))
        if kind < 0.3:
            return tokens
        if kind < 0.6:
            return tokens[:at]
        if kind < 0.8:
            return np.append(tokens[:at], self.fresh(200))
        if kind < 0.95:
            return np.append(tokens, self.fresh(200))
        return self.fresh(500)
