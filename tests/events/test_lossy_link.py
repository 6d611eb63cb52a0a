"""Publisher and session over a lossy, repeating, delaying, mangling link: seeds, virtual time."""

import pytest

from radixroute.events.records import Heartbeat
from radixroute.events.session import StreamSession
from radixroute.events.states import StreamState
from tests.events.fakes import SETTINGS, World

SEEDS = 1500
CHUNK = 100


def run_world(seed: int, session: StreamSession | None = None) -> World:
    world = World(seed, session)
    for _ in range(4):
        world.run(40, is_busy=True)
        world.router.session.check()
    world.stream.check()
    world.quieten()
    return world


def is_right(world: World) -> bool:
    # Which pairs are resident. A mangled batch may also cost a second copy of a block: that shows
    # when the first copy is removed, not before, because the digest is over distinct pairs.
    return set(world.router.index) == set(world.cache.truth)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_after_quiet_the_index_is_the_truth(first):
    for seed in range(first, first + CHUNK):
        world = run_world(seed)
        session = world.router.session
        session.check()
        assert session.state is StreamState.LIVE, f"seed {seed}"
        assert is_right(world), f"seed {seed}"
        assert session.n_blocks == len(world.cache.truth), f"seed {seed}"


def test_the_same_seed_gives_the_same_run():
    once, again = run_world(7), run_world(7)
    assert once.router.states == again.router.states
    assert once.router.session.counters == again.router.session.counters


def test_the_faults_really_happen():
    seen = [run_world(seed).router.session.counters for seed in range(60)]
    for name in (
        "duplicates", "foreign", "malformed", "gaps", "replays_failed", "snapshots_applied",
        "timeouts", "digest_mismatches", "silences", "late_replies", "unwanted_parts",
    ):  # fmt: skip
        assert sum(getattr(counters, name) for counters in seen) > 0, name


class Believer(StreamSession):
    """A session that does not compare digests."""

    def _agrees_with(self, beat: Heartbeat) -> bool:
        return True


class Forgetful(StreamSession):
    """A session that does not look at the heartbeat's `last_seq`."""

    def receive_heartbeat(self, beat, now_ns):
        self._heard_ns = now_ns
        return []


@pytest.mark.parametrize("mutant", [Believer, Forgetful])
def test_without_the_heartbeats_proof_some_index_stays_wrong(mutant):
    worlds = [run_world(seed, mutant(0, SETTINGS)) for seed in range(100)]
    assert any(
        world.router.session.state is StreamState.LIVE and not is_right(world) for world in worlds
    )
