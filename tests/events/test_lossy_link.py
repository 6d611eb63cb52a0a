"""Publisher and session over a lossy, repeating, delaying, mangling link: seeds, virtual time."""

import pytest

from radixroute.events.errors import LocalEventError
from radixroute.events.session.actions import Apply, Reset
from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Heartbeat
from radixroute.radix.ids import BlockKey, Holder
from radixroute.radix.index.prefix_index import PrefixIndex
from tests.events.fakes import HOLDER, RouterEnd, World, share_a_socket
from tests.parts import parts

SEEDS = 10_000
RANK_SEEDS = 1000  # two ranks take twice as long: the rest of the 10,000 is slow
INDEX_SEEDS = 1000


class IndexEnd(RouterEnd):
    """A router's end that keeps a `PrefixIndex` too, or its part of one."""

    def __init__(self, rank: int = 0, prefixes: PrefixIndex | None = None) -> None:
        super().__init__(rank=rank)
        self.holder = Holder(HOLDER.worker, rank)
        self.prefixes = prefixes or PrefixIndex()
        self.prefixes.join(self.holder)

    def carry_out(self, actions) -> None:
        super().carry_out(actions)
        for action in actions:
            if isinstance(action, Reset):
                self.prefixes.clear(self.holder)
            elif isinstance(action, Apply):
                for event in action.events:
                    self._follow(event)

    def _follow(self, event) -> None:
        match event:
            case BlocksStored(parent, keys, tier):
                self.prefixes.store(self.holder, parent, keys, tier)
            case BlocksRemoved(keys, tier):
                self.prefixes.remove(self.holder, keys, tier)
            case CacheCleared():
                self.prefixes.clear(self.holder)


def run_ranks(seed, routers=(None, None)) -> list[World]:
    """Two ranks of one worker whose batches, resends and snapshots come from one address."""
    worlds = [World(seed, router, rank) for rank, router in enumerate(routers)]
    share_a_socket(worlds)
    run(worlds[0])
    return worlds


def run_world(seed, router=None):
    world = World(seed, router)
    run(world)
    return world


def run(world: World) -> None:
    for _ in range(4):
        world.run(40, is_busy=True)
        for one in world.socket:
            one.router.session.check()
    for one in world.socket:
        one.stream.check()
    world.quieten()


def is_right(world: World) -> bool:
    return world.router.index == world.cache.truth


@pytest.mark.parametrize("seeds", parts(SEEDS, quick=120, step=500))
def test_after_quiet_the_index_is_the_truth(seeds):
    for seed in seeds:
        world = run_world(seed)
        session = world.router.session
        session.check()
        assert session.state is StreamState.LIVE, f"seed {seed}"
        assert is_right(world), f"seed {seed}"


@pytest.mark.parametrize("seeds", parts(SEEDS, quick=40, step=100, slow=RANK_SEEDS))
def test_after_quiet_each_of_two_ranks_on_one_socket_has_its_own_truth(seeds):
    for seed in seeds:
        prefixes = PrefixIndex()
        routers = [IndexEnd(rank, prefixes) for rank in range(2)]
        for router, world in zip(routers, run_ranks(seed, routers), strict=True):
            router.session.check()
            assert router.session.state is StreamState.LIVE, f"seed {seed}"
            assert is_right(world), f"seed {seed}"
            assert router.session.counters.wrong_rank > 0
            assert prefixes.account(router.holder) == router.account(), f"seed {seed}"
            keys = {key for key, _ in world.cache.truth}
            assert prefixes.n_blocks(router.holder) == len(world.cache.truth), f"seed {seed}"
            assert all(prefixes.holds(router.holder, BlockKey(key)) for key in keys)
        prefixes.check()


@pytest.mark.parametrize("seeds", parts(INDEX_SEEDS, quick=60, step=500))
def test_the_real_index_follows_as_well(seeds):
    for seed in seeds:
        world = run_world(seed, IndexEnd())
        index, truth = world.router.prefixes, world.cache.truth
        index.check()
        assert index.account(HOLDER) == world.router.account(), f"seed {seed}"
        assert index.n_blocks(HOLDER) == len(truth), f"seed {seed}"
        assert all(index.holds(HOLDER, BlockKey(key)) for key, _ in truth), f"seed {seed}"


def test_the_same_seed_gives_the_same_run():
    once, again = run_world(7), run_world(7)
    assert once.router.states == again.router.states
    assert once.router.session.counters == again.router.session.counters


def test_the_faults_really_happen():
    seen = [run_world(seed).router.session.counters for seed in range(60)]
    for name in (
        "duplicates", "foreign", "malformed", "gaps", "resends_failed", "snapshots_applied",
        "timeouts", "digest_mismatches", "silences", "late_replies", "unwanted_parts",
    ):  # fmt: skip
        assert sum(getattr(counters, name) for counters in seen) > 0, name


class Believer(StreamSession):
    """A session that does not compare digests."""

    def _is_contradicted_by(self, beat: Heartbeat) -> bool:
        return False


class Forgetful(StreamSession):
    """A session that does not look at the heartbeat's `last_seq`."""

    def receive_heartbeat(self, beat, now_ns):
        self._heard_ns = now_ns
        return []


class AnyEpoch(StreamSession):
    """A session that takes events of any life of the worker: "newest wins", or oldest."""

    def _is_ours(self, item) -> bool:
        return self._epoch is not None and item.rank == self._rank


class AnyRank(StreamSession):
    """A session that takes what another rank of its socket says for its own."""

    def _is_ours(self, item) -> bool:
        return self._epoch is not None and item.epoch == self._epoch


class NoFence(StreamSession):
    """A session that applies what it buffered after a snapshot, whatever the snapshot covers."""

    def receive_snapshot(self, part, now_ns):
        fenced = super().receive_snapshot
        waiting = dict(self._order._waiting)
        actions = fenced(part, now_ns)
        if self.state is StreamState.LIVE and part.seq is not None:
            for seq in sorted(seq for seq in waiting if seq <= part.seq):
                actions.append(Apply(waiting[seq].events))
        return actions


def goes_wrong(seed, mutant) -> bool:
    """At any moment of a run, or after it."""
    try:
        world = run_world(seed, RouterEnd(mutant))
    except (AssertionError, LocalEventError):
        return True
    return world.router.session.state is StreamState.LIVE and not is_right(world)


@pytest.mark.parametrize("mutant", [AnyEpoch, NoFence])
def test_without_the_epoch_or_the_fence_some_index_goes_wrong(mutant):
    wrong = next(seed for seed in range(100) if goes_wrong(seed, mutant))
    assert not goes_wrong(wrong, StreamSession)


@pytest.mark.parametrize("mutant", [Believer, Forgetful])
def test_without_the_heartbeats_proof_some_index_stays_wrong(mutant):
    worlds = (run_world(seed, RouterEnd(mutant)) for seed in range(100))
    assert any(
        world.router.session.state is StreamState.LIVE and not is_right(world) for world in worlds
    )


def test_without_the_rank_two_indexes_never_settle():
    for seed in range(10):
        try:
            worlds = run_ranks(seed, (RouterEnd(AnyRank), RouterEnd(AnyRank, rank=1)))
        except (AssertionError, LocalEventError):
            continue
        states = [world.router.session.state for world in worlds]
        assert set(states) != {StreamState.LIVE} or not all(map(is_right, worlds))
