"""Planted lies over real engines: the liar alone loses credit, soon; it comes back afterwards."""

import logging

import numpy as np
import pytest

from radixroute.radix.keys.block_keys import block_keys
from tests.audit import lies
from tests.audit.fleet import Fleet
from tests.audit.workers import SIZE, Shape

LIAR, HONEST = "w1", "w0"
# Small caches and several conversations: what is said falsely is soon asked for.
SHAPE = Shape(workers=2, kv_blocks=40, talks=8, loss=0.01)
# Requests after the first false word in which it must be found. Nobody is sent to what is hidden:
# such a lie is found when load brings a conversation back to the liar.
SOON = {"false_blocks": 20, "dropped_removals": 20, "double_copies": 20, "hidden_stores": 40}
KINDS = tuple(SOON)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def lie_of(kind, fleet):
    if kind != "false_blocks":
        return getattr(lies, kind)

    def somebody_asks_for():
        tokens = np.array(fleet.rng.choice(fleet.talks), np.uint32)
        return block_keys(tokens, SIZE, fleet.hash_seed)

    return lies.false_blocks(somebody_asks_for)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.deep) for s in (2, 3, 4))])
def test_a_lie_soon_costs_its_teller_the_credit(seed, kind):
    fleet = Fleet(seed, SHAPE)
    fleet.run(100)
    assert fleet.has_credit(LIAR)
    fleet.lie_of[LIAR] = lie_of(kind, fleet)
    liar = fleet.workers[LIAR]
    while fleet.has_credit(LIAR):
        fleet.run(2)
        told, since = liar.told["reports"], liar.false_since
        assert since is None or told - since <= SOON[kind], f"seed {seed}: {kind} goes unseen"
        assert told < 500
    fleet.run(60)
    assert not fleet.has_credit(LIAR), "the snapshot repeats the lie"
    assert fleet.has_credit(HONEST)
    assert not fleet.audit(HONEST).differing
    shown = {seen.worker_id: seen.is_fresh for seen in fleet.core.snapshot().workers}
    assert shown == {LIAR: False, HONEST: True}
    assert not fleet.failed


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k == "hidden_stores" else pytest.mark.deep) for k in KINDS]
)
def test_credit_comes_back_when_the_lie_has_ended_and_been_forgotten(kind):
    fleet = Fleet(3, SHAPE)
    fleet.run(60)
    fleet.lie_of[LIAR] = lie_of(kind, fleet)
    while fleet.has_credit(LIAR):
        fleet.run(5)
    fleet.lie_of.clear()
    for _ in range(60):
        if fleet.has_credit(LIAR):
            break
        fleet.run(20)
    assert fleet.has_credit(LIAR)
    assert fleet.has_credit(HONEST)
    assert not fleet.audit(HONEST).differing


def test_another_life_has_credit_at_once():
    fleet = Fleet(4, SHAPE)
    fleet.lie_of[LIAR] = lies.hidden_stores
    while fleet.has_credit(LIAR):
        fleet.run(5)
    fleet.lie_of.clear()
    fleet.kill(LIAR)
    fleet.run(40)
    assert fleet.has_credit(LIAR)
    assert fleet.audit(LIAR).judged > 0
