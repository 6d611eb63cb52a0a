"""A wrong index never survives two received heartbeats, whatever made it wrong.

The heartbeat must be one that can tell: of the seq last applied, on a session that believes itself
live. Batches are mangled on their way, and blocks are lost from the index or added to it by verbs
nobody asked for.
"""

import random
from collections import Counter

import pytest

from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Event,
    Heartbeat,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from tests.events.fakes import RouterEnd, World, removed, stored
from tests.parts import parts

SEEDS = 1000
MAX_BEATS = 2


class StrayEnd(RouterEnd):
    """An index that now and then has a block too few or too many."""

    def __init__(self, session=StreamSession) -> None:
        super().__init__(session)
        self.strays: Counter[str] = Counter()

    def stray(self, rng: random.Random) -> None:
        held = sorted(key for key, n in self.held().items() if n)
        if held and rng.random() < 0.5:
            key, tier = rng.choice(held)
            self._apply(removed(key, tier=tier))
            self.strays["lost"] += 1
        else:
            self._apply(stored(None, rng.getrandbits(64) | 1, tier=rng.choice(list(Tier))))
            self.strays["added"] += 1


class StrayIndexEnd(StrayEnd):
    """The same with the real index, whose own account the session asks for."""

    HOLDER = Holder(WorkerId("w0"), 0)

    def __init__(self, session=StreamSession) -> None:
        self.prefixes = PrefixIndex()
        self.prefixes.join(self.HOLDER)
        super().__init__(session)

    def account(self) -> Account:
        return self.prefixes.account(self.HOLDER)

    def held(self) -> Counter[tuple[int, Tier]]:
        runs = self.prefixes.dump(self.HOLDER)
        return Counter((key, run.tier) for run in runs for key in run.keys.tolist())

    def _apply(self, event: Event) -> None:
        match event:
            case BlocksStored(parent, keys, tier):
                self.prefixes.store(self.HOLDER, parent, keys, tier)
            case BlocksRemoved(keys, tier):
                self.prefixes.remove(self.HOLDER, keys, tier)
            case CacheCleared():
                self.prefixes.clear(self.HOLDER)


class WatchedWorld(World):
    """Counts the heartbeats that a wrong index outlives on a live session."""

    router: StrayEnd

    def __init__(self, seed: int, router: StrayEnd) -> None:
        self.n_told = 0  # heartbeats that met a wrong index and could tell
        self.survived = 0  # most heartbeats any divergence outlived after the one that could tell
        self._wrong_since: int | None = None  # state changes when it was first met
        self._beats = 0
        super().__init__(seed, router)

    def _work(self) -> None:
        super()._work()
        if self.rng.random() < 0.01:
            self.router.stray(self.rng)

    @property
    def is_believed_right(self) -> bool:
        return True  # it is not: strays

    def _deliver(self, item) -> None:
        is_beat = isinstance(item, Heartbeat) and item.epoch == self.stream.epoch
        if not is_beat or self.router.session.epoch != self.stream.epoch:
            super()._deliver(item)
            return
        session, changes = self.router.session, len(self.router.states)
        can_tell = session.state is StreamState.LIVE and session.applied_seq == item.last_seq
        is_told = can_tell and not self.is_right_so_far(Counter)
        self.n_told += is_told
        super()._deliver(item)
        if self._wrong_since is not None:
            self._beats += 1
        elif is_told:
            self._wrong_since, self._beats = changes, 0
        if self._wrong_since is None:
            return
        if len(self.router.states) > self._wrong_since or self.is_right_so_far(Counter):
            self._wrong_since = None
        else:
            self.survived = max(self.survived, self._beats)


def watched(seed, router) -> WatchedWorld:
    """Strays while everything fails, and one more when nothing does but the heart beats."""
    world = WatchedWorld(seed, router)
    world.run(160, is_busy=True)
    world.quieten()
    world.router.stray(world.rng)
    world.run(150, is_busy=False)
    world.quieten()
    return world


@pytest.mark.parametrize("seeds", parts(SEEDS, quick=150))
def test_no_wrong_index_survives_two_heartbeats(seeds):
    told, strays = 0, Counter[str]()
    for seed in seeds:
        world = watched(seed, StrayEnd())
        assert world.survived < MAX_BEATS, f"seed {seed}"
        assert world.router.session.state is StreamState.LIVE, f"seed {seed}"
        assert world.router.held() == world.cache.truth, f"seed {seed}"
        told += world.n_told
        strays += world.router.strays
    assert told > len(seeds)
    assert min(strays["lost"], strays["added"]) > len(seeds) / 5


def test_nor_does_it_in_the_real_index():
    told = 0
    for seed in range(40):
        router = StrayIndexEnd()
        world = watched(seed, router)
        assert world.survived < MAX_BEATS, f"seed {seed}"
        assert router.held() == world.cache.truth, f"seed {seed}"
        router.prefixes.check()
        told += world.n_told
    assert told > 40


class Believer(StreamSession):
    """A session that does not compare."""

    def _is_contradicted_by(self, beat: Heartbeat) -> bool:
        return False


class Sleepy(StreamSession):
    """A session that compares every fourth heartbeat."""

    _n = 0

    def _is_contradicted_by(self, beat: Heartbeat) -> bool:
        self._n += 1
        return self._n % 4 == 0 and super()._is_contradicted_by(beat)


class Counting(StreamSession):
    """A session that compares how many blocks there are, not which."""

    def _is_contradicted_by(self, beat: Heartbeat) -> bool:
        is_same_size = beat.account[0] == self._account()[0]
        return not is_same_size and super()._is_contradicted_by(beat)


@pytest.mark.parametrize("mutant", [Believer, Sleepy])
def test_a_session_that_looks_away_is_caught(mutant):
    assert any(watched(seed, StrayEnd(mutant)).survived >= MAX_BEATS for seed in range(20))


def test_a_session_that_only_counts_blocks_is_caught():
    """One block lost and another added: the number is right and the index is not."""

    class Swapping(StrayEnd):
        def stray(self, rng: random.Random) -> None:
            held = sorted(self.held())
            if held:
                key, tier = rng.choice(held)
                self._apply(removed(key, tier=tier))
                self._apply(stored(None, rng.getrandbits(64) | 1, tier=tier))

    worst = [watched(seed, Swapping(Counting)).survived for seed in range(40)]
    assert max(worst) >= MAX_BEATS
    assert max(watched(seed, Swapping()).survived for seed in range(40)) < MAX_BEATS
