"""Seeds of the simulation: all invariants hold, a seed is a trace, and a failure shrinks."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from radixroute.router.core.booking import Booker
from radixroute.router.workers.load import LoadBook
from tests.simulation.deeds import Submit, TakeLease
from tests.simulation.drawing.by_seed import make_plan
from tests.simulation.seeds import Tally, run_seeds
from tests.simulation.shrink import failure_of, report, shrink
from tests.simulation.world import World, run

QUICK, DEEP, CHUNK = 300, 5000, 50


@cache
def chunk(first: int) -> Tally:
    return run_seeds(range(first, first + CHUNK))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=[pytest.mark.deep] if first >= QUICK else [])
        for first in range(0, DEEP, CHUNK)
    ],
)
def test_every_invariant_holds(first):
    tally = chunk(first)
    if tally.failure is not None:
        pytest.fail(report(shrink(tally.failure)), pytrace=False)


def test_the_same_seed_gives_the_same_trace():
    for seed in (*range(0, 40, 8), *range(11, 60, 12)):
        assert run(make_plan(seed)) == run(make_plan(seed))
    assert run(make_plan(1)).trace != run(make_plan(6)).trace


_TRACES = """
from tests.simulation.deeds import Submit, TakeLease
from tests.simulation.drawing.by_seed import make_plan
from tests.simulation.world import World, run
print([run(make_plan(seed)).trace for seed in range(2, 5)])
"""


def test_the_order_of_hashes_does_not_matter():
    traces = [
        subprocess.run(
            [sys.executable, "-c", _TRACES],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(traces[0]) > 60


def test_what_can_go_wrong_does():
    """An invariant that never meets a death, a loss or a lie proves nothing."""
    tallies = [chunk(first) for first in (0, CHUNK, 5 * CHUNK)]
    counters = sum((tally.counters for tally in tallies), Counter[str]())
    for name in (
        "requests_resumed", "requests_failed_after_two_deaths", "requests_aborted_by_client",
        "requests_past_deadline", "requests_refused_queue_full", "requests_failed_by_worker",
        "workers_died", "workers_suspected", "joins_refused", "leases_granted", "leases_lapsed",
        "deltas_dropped_old_attempt", "deltas_dropped_duplicate", "deltas_dropped_not_contiguous",
        "ticks_late", "event_items_malformed", "event_items_dropped_unknown_worker",
        "finishes_synthesised", "connects_failed", "index_parent_conflicts",
        "leases_used", "requests_sent_back_by_full_workers", "requests_refused_by_worker",
        "requests_refused_no_workers", "requests_retried", "requests_not_resumable",
        "breakers_opened", "expected_blocks_lapsed",
        "learned_blocks_lapsed", "replicas_of_hot_prefixes",
        "audit_reports_judged", "audit_credit_lost", "audit_credit_returned",
        "index_copies_uncounted",
    ):  # fmt: skip
        assert counters[name] > 0, name


def test_requests_are_kept_apart_in_every_way():
    plans = [make_plan(seed) for seed in range(2 * CHUNK)]
    asks = [d for plan in plans for d in plan.deeds if isinstance(d, (Submit, TakeLease))]
    assert sum(bool(deed.salt) for deed in asks) > 50
    assert sum(bool(deed.lora) for deed in asks) > 50
    assert sum(not plan.tenants_share for plan in plans) > 5


def test_some_of_them_only_some_engines_understand():
    plans = [make_plan(seed) for seed in range(2 * CHUNK)]
    asks = [d for plan in plans for d in plan.deeds if isinstance(d, Submit) and d.is_verbatim]
    assert sum(deed.is_read for deed in asks) > 50
    assert sum(not deed.is_read for deed in asks) > 50
    takers = [[w.takes_verbatim for w in plan.workers] for plan in plans]
    assert sum(any(some) and not all(some) for some in takers) > 5


def test_special_days_are_what_they_are_for():
    """An invariant of many, of long ones or of equals says nothing where there are few."""
    worlds = {}
    for seed in range(71, 120, 12):
        world = World(make_plan(seed))
        world.run()
        worlds[world.plan.mode] = world
    assert worlds["crowded"].watchers.costs.most_waited > 200
    assert worlds["even"].ledger.tally["dispatched"] > 100
    assert worlds["hoarding"].router.index.n_uncounted
    assert any(w.liar.has_told_roots for w in worlds["mistaken"].workers.values())
    chained = worlds["chained"]
    assert chained.router.index.n_bytes > 0.6 * chained.plan.index_bytes


def test_a_failure_shrinks_to_a_schedule_that_still_fails(monkeypatch):
    """Bookings that are never settled, as ai-dynamo/dynamo#14758 saw them."""

    def settle(self, booking, policy_name):
        self._state.expected.end(booking)

    monkeypatch.setattr(Booker, "settle", settle)
    failure = failure_of(make_plan(3))
    assert failure is not None
    assert failure.claim in ("bookings", "own check")
    small = shrink(failure)
    assert len(small.plan.deeds) <= 2
    again = failure_of(small.plan)
    assert again is not None
    assert again.claim == failure.claim
    assert "make simulate SEED=3" in report(small)


def test_what_the_router_raises_is_a_failure_too(monkeypatch):
    monkeypatch.setattr(LoadBook, "report", lambda *args: 1 // 0)
    failure = failure_of(make_plan(0))
    assert failure is not None
    assert failure.claim == "ZeroDivisionError"
