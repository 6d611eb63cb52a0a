"""Replicas: a hot prefix is computed once more when waiting for its holders cost twice as much."""

import random

import numpy as np

from radixroute.radix.ids import Keys, WorkerId
from radixroute.router.counters import Count, Counters
from radixroute.router.policy.radix.replicas import (
    MAX_PREFIXES,
    Replicas,
    longest_held,
    name_of,
)
from radixroute.router.policy.radix.weights import WEIGHTS
from tests.router.worlds import World, request

KEYS: Keys = np.arange(100, 110, dtype=np.uint64)
OTHER = "a request that lost nothing"


def test_a_prefix_is_named_by_the_last_block_that_anybody_holds():
    assert name_of(KEYS, longest_held(np.array([0, 3, 1], np.int32))) == 102
    assert name_of(KEYS, longest_held(np.array([0, 0], np.int32))) is None
    assert longest_held(np.array([], np.int32)) == 0


def test_no_more_is_spent_than_the_share_of_what_was_lost():
    rng = random.Random(1)
    replicas = Replicas(Counters())
    lost, spent = dict.fromkeys(range(5), 0.0), dict.fromkeys(range(5), 0.0)
    for n in range(3000):
        prefix = rng.randrange(5)
        if rng.random() < 0.7:
            ms = rng.choice([-1.0, 0.0, 3.0, 40.0])
            replicas.lost(prefix, ms, f"r{n}")
            lost[prefix] += max(0.0, ms)
        else:
            ms = replicas.credit_ms(prefix, OTHER) * rng.choice([0.0, 0.4, 1.0])
            replicas.spent(prefix, ms)
            spent[prefix] += ms
        assert (
            abs(replicas.credit_ms(prefix, OTHER) - (WEIGHTS.copies * lost[prefix] - spent[prefix]))
            < 1e-6
        )
    assert all(0.0 < spent[p] <= WEIGHTS.copies * lost[p] + 1e-6 for p in range(5))


def test_a_request_never_spends_its_own_loss():
    replicas = Replicas(Counters())
    replicas.lost(7, 40.0, "a")
    assert (replicas.credit_ms(7, "a"), replicas.credit_ms(7, OTHER)) == (
        0.0,
        WEIGHTS.copies * 40.0,
    )
    replicas.lost(7, 10.0, "b")
    assert replicas.credit_ms(7, "a") == WEIGHTS.copies * 10.0
    replicas.lost(7, 5.0, "a")  # it loses once
    assert replicas.credit_ms(7, "b") == WEIGHTS.copies * 40.0
    replicas.ended("a")
    assert replicas.credit_ms(7, "a") == WEIGHTS.copies * 50.0, "who comes back is somebody else"


def test_what_nobody_holds_has_no_account():
    replicas = Replicas(Counters())
    replicas.lost(None, 5.0, OTHER)
    replicas.spent(None, 5.0)
    assert (len(replicas), replicas.credit_ms(None, OTHER)) == (0, 0.0)


def test_accounts_are_bounded_and_those_that_lost_least_lately_go():
    counters = Counters()
    replicas = Replicas(counters)
    for prefix in range(MAX_PREFIXES):
        replicas.lost(prefix, 1.0, f"r{prefix}")
    replicas.lost(0, 1.0, "again")
    replicas.lost(MAX_PREFIXES, 1.0, "more")
    assert len(replicas) == MAX_PREFIXES
    assert (replicas.credit_ms(0, OTHER), replicas.credit_ms(1, OTHER)) == (2 * WEIGHTS.copies, 0.0)
    assert counters[Count.REPLICA_ACCOUNTS_FORGOTTEN] == 1


def ask_a_busy_holder(prefixes: list[int]) -> World:
    """`a` holds what is asked for and computes a long prompt; `b` is idle and holds nothing."""
    world = World("a", "b")
    asked = [
        request(f"r{n}", prefix, blocks=24, shared=23, policy="radix_at_once")
        for n, prefix in enumerate(prefixes)
    ]
    for spec in asked:
        world.index.held[WorkerId("a")] |= set(spec.keys[:23].tolist())
    long = request("long", prefix=99, blocks=20, policy="radix_at_once")
    world.index.held[WorkerId("a")] |= set(long.keys[:10].tolist())
    world.submit(long)
    assert world.on("a") == ["long"]
    for spec in asked:
        world.submit(spec)
        world.abort(spec.request_id)  # the next one finds the same
    return world


def test_a_hot_prefix_is_computed_once_more_while_its_holder_is_busy():
    world = ask_a_busy_holder([7] * 40)
    counters = world.core._state.counters
    assert counters[Count.REPLICAS_MADE] >= 1


def test_what_each_turn_asks_for_once_is_never_copied():
    world = ask_a_busy_holder(list(range(40)))
    assert world.core._state.counters[Count.REPLICAS_MADE] == 0
