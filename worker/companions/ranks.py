"""Ranks: the caches of one engine, one a data-parallel rank, and which of them a request goes to.

The router knows what each rank holds, and chooses the engine by the best of them; the rank is
chosen here, where what each has to compute is known best. Owns mirrors, followers and beliefs. On
the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from radixroute.events.wire.records import CacheCleared, Event
from radixroute.worker.companions.cache.believed import BelievedCache
from radixroute.worker.companions.cache.follower import EventFollower
from radixroute.worker.companions.cache.mirror import CacheMirror
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.calls import Call
from radixroute.worker.companions.dialects.dialect import EngineNumbers
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.engine.engine import EngineRequest

# Prompt tokens that a request which runs slows a new one by; a judgement: a hit of a few blocks is
# worth less than an empty rank beside one that is full.
_RUNNING_TOKENS: Final = 8


class RanksListener(Protocol):
    """Who hears of the caches, on the event loop."""

    def on_cache(self, events: Sequence[Event], rank: int) -> None: ...

    def on_link_lost(self) -> None: ...


@dataclass(slots=True, eq=False)
class RankCache:
    """One rank's. Implements `radixroute.worker.companions.join.trying_out.TriedCache`."""

    mirror: CacheMirror
    follower: EventFollower | None = None  # None: its events are not followed
    believed: BelievedCache | None = None  # None: it tells, or keeps nothing


class Ranks:
    """Of one engine. Implements `radixroute.worker.companions.watching.Followed`."""

    def __init__(self, joined: Joined, salts: Salts, listener: RanksListener) -> None:
        self._listener = listener
        self.caches = [RankCache(CacheMirror(joined.scope)) for _ in joined.ranks]
        self._n_blocks: int | None = 0  # None: to be counted
        pool_blocks = joined.info.kv_blocks_total // len(self.caches)
        for rank, (cache, place) in enumerate(zip(self.caches, joined.places, strict=False)):
            cache.follower = EventFollower(
                place, joined.scope, salts, _Heard(self, rank), pool_blocks=pool_blocks
            )

    def __len__(self) -> int:
        return len(self.caches)

    @property
    def followers(self) -> list[EventFollower]:
        return [one.follower for one in self.caches if one.follower is not None]

    @property
    def is_alive(self) -> bool:
        """Nobody who follows has given up."""
        return all(follower.is_alive for follower in self.followers)

    @property
    def breaks(self) -> int:
        """Times that a link was lost, or an engine's count began anew."""
        return sum(follower.breaks for follower in self.followers)

    @property
    def n_blocks(self) -> int:
        """That all of them hold in any tier."""
        if self._n_blocks is None:
            self._n_blocks = sum(cache.mirror.n_blocks for cache in self.caches)
        return self._n_blocks

    def blocks_used(self, total: int, pinned: int) -> int:
        """Of `total` (0: not told). The engine's own number counts pinned blocks alone."""
        held = self.n_blocks
        return max(pinned, min(held, total) if total else held)

    def start(self) -> None:
        """Raises `LocalEventError` for what is no address."""
        for follower in self.followers:
            follower.start()

    async def unfollow(self) -> None:
        """Their events are not believed, whosever they were. Waits for the threads. Idempotent."""
        loop = asyncio.get_running_loop()
        followers = self.followers
        stopping = [loop.run_in_executor(None, follower.stop) for follower in followers]
        await asyncio.gather(*stopping)
        for rank, cache in enumerate(self.caches):
            if cache.follower is not None:
                cache.follower = None
                self.changed((CacheCleared(),), rank)

    def believe(self, make: Callable[[], BelievedCache]) -> None:
        """They tell nothing."""
        for cache in self.caches:
            cache.believed = make()

    def expire(self, now_ns: int) -> None:
        """What is believed too long."""
        for rank, cache in enumerate(self.caches):
            if cache.believed is not None:
                self.changed(cache.believed.expire(now_ns), rank)

    def changed(self, events: Sequence[Event], rank: int) -> None:
        """One of them holds more, or less."""
        if events:
            self.caches[rank].mirror.apply(events)
            self._n_blocks = None
            self._listener.on_cache(events, rank)

    def lost(self) -> None:
        self._listener.on_link_lost()

    def is_cut(self, rank: int) -> bool:
        """It holds blocks that it is to tell of again."""
        follower = self.caches[rank].follower
        return follower is not None and follower.is_cut

    def choose(
        self, request: EngineRequest, calls: Iterable[Call], told: EngineNumbers
    ) -> tuple[int, int]:
        """The rank that would begin it first, and tokens of its prompt that are cached there.
        `calls`: that run now; `told`: by the engine. O(calls) where there is a choice."""
        cached = [
            cache.mirror.cached_tokens(request.prompt, request.scope) for cache in self.caches
        ]
        if len(cached) == 1:
            return 0, cached[0]
        work = self._work(calls, told)
        rank = min(
            range(len(cached)),
            key=lambda at: (work[at] - cached[at], self.caches[at].mirror.n_blocks, at),
        )
        return rank, cached[rank]

    def _work(self, calls: Iterable[Call], told: EngineNumbers) -> list[int]:
        """Of each, in prompt tokens: what is to be computed, and what runs beside it."""
        queued, ours = [0] * len(self), [0] * len(self)
        for call in calls:
            ours[call.rank] += 1
            if call.first_ns is None:
                queued[call.rank] += call.uncached_tokens
        for rank, numbers in enumerate(told.ranks[: len(self)]):
            # Others may send there, too; what was told is older than what we know of our own.
            ours[rank] = max(ours[rank], numbers.running + numbers.waiting)
        return [n + _RUNNING_TOKENS * m for n, m in zip(queued, ours, strict=True)]


class _Heard:
    """One rank's events. Implements `radixroute.worker.companions.cache.follower.CacheListener`."""

    def __init__(self, ranks: Ranks, rank: int) -> None:
        self._ranks = ranks
        self._rank = rank

    def on_cache(self, events: Sequence[Event]) -> None:
        self._ranks.changed(events, self._rank)

    def on_link_lost(self) -> None:
        self._ranks.lost()
