"""Fleets that change in mid-run: workers that slow down, come, leave or die."""

from dataclasses import replace

import numpy as np
import pytest

from radixroute.radix.errors import BrokenInvariant
from radixroute.replay.analysis import misses
from radixroute.replay.changes import (
    DIE,
    DRAIN,
    JOIN,
    SLOWNESS,
    FleetChange,
    absent_at_first,
    check_lives,
    read_changes,
)
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.fleet.timing import POLYNOMIAL
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import Simulation, simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.replay.traces.trace import Trace, prefixes
from tests.replay.golden_decisions import digest

SHAPE = FleetShape(workers=4, kv_blocks=2048, block_size=64)
POLICIES = ("radix", "dynamo_agentic", "prefix_approx", "session_affinity")


@pytest.fixture(scope="module")
def chats() -> Trace:
    return cut(synthesize("chats", 3), 400)


def half_s(trace, speed=1.0):
    return trace.duration_ns / speed / 2e9


def run(trace, policy, *changes, speed=1.0, **scenario):
    return simulate(trace, policy, Scenario(SHAPE, speed=speed, changes=changes, **scenario))


def assert_whole(result, trace):
    """Every request was served once, and its times are in order."""
    assert (result.worker >= 0).all()
    assert (result.arrival_ns <= result.decided_ns).all()
    assert (result.decided_ns <= result.admitted_ns).all()
    assert (result.admitted_ns < result.first_ns).all()
    assert (result.first_ns <= result.finish_ns).all()
    assert (result.cached_tokens < trace.input_tokens).all()


# -- the words


def test_changes_are_read_as_they_are_written():
    assert read_changes(" 0:x3@60, 0:x1@120.5,1:die@90,1:join@150,2:drain@200, ") == (
        FleetChange(60.0, 0, SLOWNESS, 3.0),
        FleetChange(120.5, 0, SLOWNESS, 1.0),
        FleetChange(90.0, 1, DIE),
        FleetChange(150.0, 1, JOIN),
        FleetChange(200.0, 2, DRAIN),
    )
    assert read_changes("") == ()


@pytest.mark.parametrize(
    "text",
    ["0", "0:x3", "0:slow@3", "x:x3@1", "0:x@1", "0:x0@1", "0:x1e999@1", "0:x+-@1", "-1:die@1"],
)
def test_words_that_are_no_change_are_refused_and_say_what_to_write(text):
    with pytest.raises(InvalidShape):
        read_changes(text)
    with pytest.raises(InvalidShape, match="WORKER:WHAT@SECONDS"):
        read_changes("0:slow@3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4:x2@1", "no worker 4"),
        ("0:join@1,0:join@2", "there already"),
        ("0:die@1,0:drain@2", "not there"),
        ("0:die@1,1:die@2,2:drain@3,3:die@4", "nobody is left"),
        ("0:join@1,1:join@1,2:join@1,3:join@1", "no worker is there"),
    ],
)
def test_lives_that_cannot_be_are_refused(text, why):
    with pytest.raises(InvalidShape, match=why):
        Scenario(SHAPE, changes=read_changes(text))


def test_who_joins_first_is_not_there_before():
    changes = read_changes("1:join@5,2:die@1,2:join@3,3:x2@0,3:join@9")
    assert absent_at_first(changes) == {1, 3}
    check_lives(changes, 4)


# -- what becomes of requests


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_dead_worker_had_goes_on_elsewhere(chats, policy):
    dies = FleetChange(half_s(chats, 4.0), 1, DIE)
    result = run(chats, policy, dies, speed=4.0)
    assert_whole(result, chats)
    assert result.counters["cut_off"] > 0
    later = result.decided_ns >= dies.at_ns
    assert later.any()
    assert not (result.worker[later] == 1).any()
    assert (result.worker[~later] == 1).any()


def test_a_first_token_that_was_given_before_a_death_stays_the_first(chats):
    dies = FleetChange(half_s(chats, 4.0), 1, DIE)
    result = run(chats, "radix", dies, speed=4.0)
    went_on = (
        (result.worker == 1) & (result.first_ns <= dies.at_ns) & (result.finish_ns > dies.at_ns)
    )
    assert went_on.any()
    assert (result.recomputed_tokens[went_on] > 0).all()
    assert not result.recomputed_tokens[result.decided_ns > dies.at_ns].any()


@pytest.mark.parametrize("policy", POLICIES)
def test_who_drains_finishes_what_it_has_and_gets_nothing_new(chats, policy):
    leaves = FleetChange(half_s(chats, 4.0), 1, DRAIN)
    result = run(chats, policy, leaves, speed=4.0)
    assert_whole(result, chats)
    assert "cut_off" not in result.counters
    assert result.recomputed_tokens.sum() == 0
    mine = result.worker == 1
    assert (result.decided_ns[mine] <= leaves.at_ns).all()
    assert (result.finish_ns[mine] > leaves.at_ns).any()


@pytest.mark.parametrize("policy", POLICIES)
def test_who_joins_has_an_empty_cache_and_is_asked_soon(chats, policy):
    comes = FleetChange(half_s(chats, 4.0), 1, JOIN)
    result = run(chats, policy, comes, speed=4.0)
    assert_whole(result, chats)
    mine = np.flatnonzero(result.worker == 1)
    assert len(mine) > 0.1 * (result.decided_ns > comes.at_ns).sum()
    assert (result.decided_ns[mine] >= comes.at_ns).all()
    first = mine[np.argmin(result.admitted_ns[mine])]
    assert result.cached_tokens[first] == result.predicted_tokens[first] == 0


@pytest.mark.parametrize("away", [DIE, DRAIN])
@pytest.mark.parametrize("conditions", [Conditions(), Conditions(300.0, 3.0)])
def test_who_comes_back_has_forgotten_all(chats, away, conditions):
    """Also where cache events and dispatches are still on their way when it goes."""
    third = half_s(chats, 4.0) * 2 / 3
    changes = FleetChange(third, 1, away), FleetChange(2 * third, 1, JOIN)
    result = run(chats, "radix", *changes, speed=4.0, conditions=conditions, keeps_events=True)
    assert_whole(result, chats)
    mine = np.flatnonzero((result.worker == 1) & (result.decided_ns >= changes[1].at_ns))
    first = mine[np.argmin(result.admitted_ns[mine])]
    assert result.cached_tokens[first] == 0
    # What is told of caches adds up: nothing is removed that was not stored.
    found = misses.attribute_misses(result, prefixes(chats, 64))
    lost = sum(found.of(name) for name in misses.CLASSES)
    assert np.array_equal(
        result.cached_tokens + lost, chats.input_tokens + result.recomputed_tokens
    )


def test_a_worker_that_joins_before_it_has_drained_is_refused(chats):
    leaves = FleetChange(half_s(chats, 4.0), 1, DRAIN)
    with pytest.raises(InvalidShape, match="let it join later"):
        run(
            chats,
            "round_robin",
            leaves,
            replace(leaves, kind=JOIN, at_s=leaves.at_s + 1e-6),
            speed=4.0,
        )


def test_a_busy_worker_is_not_renewed(chats):
    numbered = prefixes(chats, 64)
    fleet = SimulatedFleet(chats, numbered, SHAPE, POLYNOMIAL)
    fleet.submit(0, 2, 0)
    with pytest.raises(BrokenInvariant):
        fleet.renew(2)
    assert fleet.die(2) == [(0, 0)]
    fleet.renew(2)


# -- speeds


def test_only_steps_that_begin_later_are_slower(chats):
    """Twice as slow from the middle on, and back: its share of the work follows."""
    half = half_s(chats, 4.0)
    plain = run(chats, "round_robin", speed=4.0)
    slowed = run(chats, "round_robin", FleetChange(half, 1, SLOWNESS, 2.0), speed=4.0)
    before = plain.finish_ns <= half * 1e9
    assert np.array_equal(plain.finish_ns[before], slowed.finish_ns[before])

    def took(found):
        mine = (found.worker == 1) & (found.arrival_ns > half * 1e9)
        return (found.finish_ns - found.admitted_ns)[mine].mean()

    assert took(slowed) > 1.4 * took(plain)


def test_what_is_learned_of_a_slowed_worker_is_kept_when_asked_for(chats):
    third = half_s(chats, 4.0) * 2 / 3
    changes = FleetChange(third, 1, SLOWNESS, 3.0), FleetChange(2 * third, 1, SLOWNESS, 1.0)
    learned = run(chats, "radix", *changes, speed=4.0, keeps_speeds=True).learned
    assert learned is not None
    ratio = learned.prefill_ms[:, 1] / learned.prefill_ms[:, [0, 2, 3]].mean(1)
    before, slow = (
        learned.ns < third * 1e9,
        (learned.ns > 1.2 * third * 1e9) & (learned.ns < 1.8 * third * 1e9),
    )
    assert ratio[before][-1] == pytest.approx(1.0, abs=0.2)
    assert 2.0 < ratio[slow].mean() < 3.5
    assert run(chats, "radix", speed=4.0).learned is None


# -- caches of different size


def test_a_small_cache_turns_over_no_faster_than_the_others():
    trace = cut(synthesize("rag", 3), 1500)
    shape = replace(SHAPE, first_kv_blocks=(1024, 1024))
    result = simulate(trace, "radix", Scenario(shape, speed=2.0))
    computed = np.bincount(result.worker, trace.input_tokens - result.cached_tokens, 4)
    assert computed[:2].mean() < 0.95 * computed[2:].mean()
    alike = simulate(trace, "radix", Scenario(SHAPE, speed=2.0))
    even = np.bincount(alike.worker, trace.input_tokens - alike.cached_tokens, 4)
    assert even[:2].mean() == pytest.approx(even[2:].mean(), rel=0.1)


def test_a_request_must_fit_the_smallest_worker(chats):
    with pytest.raises(InvalidShape, match="do not fit a worker of 8 blocks"):
        simulate(chats, "radix", Scenario(replace(SHAPE, first_kv_blocks=(2048, 8))))
    with pytest.raises(InvalidShape, match="first_kv_blocks"):
        replace(SHAPE, first_kv_blocks=(1,) * 5)


# -- the same every time


@pytest.mark.parametrize("policy", POLICIES)
def test_changes_are_the_same_every_time_however_often_it_is_looked_at(monkeypatch, chats, policy):
    third = half_s(chats, 4.0) * 2 / 3
    changes = (
        FleetChange(third / 2, 0, SLOWNESS, 3.0),
        FleetChange(third, 1, DIE),
        FleetChange(1.2 * third, 2, DRAIN),
        FleetChange(1.5 * third, 0, SLOWNESS, 1.0),
        FleetChange(2 * third, 1, JOIN),
    )
    first = digest(run(chats, policy, *changes, speed=4.0))
    assert digest(run(chats, policy, *changes, speed=4.0)) == first
    monkeypatch.setattr(Simulation, "_is_looked_at", lambda self, now_ns: True)
    assert digest(run(chats, policy, *changes, speed=4.0)) == first
