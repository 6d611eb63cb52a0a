"""What a request log says of caches: reachable, told, and why not, against a plain count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.doctor.reuse import reuse_of
from tests.doctor.evidences import BLOCK, entry, prefix, well_served


def test_a_fleet_that_is_well_loses_nothing():
    reuse = reuse_of(well_served(60, groups=3))
    assert reuse.requests == 60
    assert reuse.reachable == reuse.told == 57 * 8 * BLOCK
    assert reuse.lost == reuse.piled == 0
    assert dict(reuse.requests_by_worker) == {"a": 40, "b": 20}
    assert dict(reuse.blocks_by_worker) == {"a": 16, "b": 8}


def test_what_another_worker_had_is_spread_and_what_its_own_had_is_evicted():
    log = [
        entry(0, "a", prefix(0), 0),
        entry(1, "b", prefix(0), 0),  # only a had it
        entry(2, "a", prefix(0), 3),  # a has three of it left
    ]
    reuse = reuse_of(log)
    assert (reuse.spread, reuse.evicted) == (8 * BLOCK, 5 * BLOCK)


def test_what_was_not_computed_yet_could_not_be_reused():
    first = entry(0, "a", prefix(0), 0, first_token_ns=10_000)
    second = entry(1, "a", prefix(0), 0, dispatched_ns=5_000, first_token_ns=12_000)
    assert reuse_of([first, second]).reachable == 0
    assert reuse_of([first, entry(20, "a", prefix(0), 0)]).evicted == 8 * BLOCK


def test_the_last_token_is_computed_in_any_case():
    whole = [entry(at, "a", prefix(0), 0, prompt_tokens=8 * BLOCK) for at in range(2)]
    assert reuse_of(whole).reachable == 7 * BLOCK


@pytest.mark.parametrize("outcome", ["error", "abort"])
def test_who_got_no_whole_answer_was_told_nothing_and_has_computed_for_others(outcome):
    log = [
        entry(0, "a", prefix(0), 0, outcome=outcome),
        entry(1, "a", prefix(0), 0, outcome=outcome),
        entry(2, "a", prefix(0), 8),
    ]
    reuse = reuse_of(log)
    assert (reuse.requests, reuse.answered) == (3, 1)
    assert reuse.reachable == reuse.told == 8 * BLOCK
    assert reuse.lost == 0


def test_those_that_never_ran_say_nothing():
    log = list(well_served(4))
    log[1].ClearField("dispatched_ns")
    log[2].ClearField("first_token_ns")
    log[3].worker_id = ""
    assert reuse_of(log).requests == 1
    assert reuse_of(()) == reuse_of([log[3]])


PATHS = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), PATHS, st.integers(0, 5)), max_size=25))
def test_reachable_is_what_sets_of_prefixes_say(drawn):
    """Requests one after another; keys are chained, as ours are: one names its whole prefix."""
    ids: dict[tuple[int, ...], int] = {}
    log, had, had_at = [], set(), set()
    reachable = lost_here = lost_there = 0
    for at, (where, path, most) in enumerate(drawn):
        prefixes = [tuple(path[: n + 1]) for n in range(len(path))]
        keys = [ids.setdefault(one, len(ids)) for one in prefixes]
        anywhere = sum(one in had for one in prefixes)
        here = sum((where, one) in had_at for one in prefixes)
        cached = min(most, here)
        log.append(entry(at, where, keys, cached))
        reachable += anywhere
        lost_here += here - cached
        lost_there += anywhere - here
        had |= set(prefixes)
        had_at |= {(where, one) for one in prefixes}
    reuse = reuse_of(log)
    assert reuse.reachable == reachable * BLOCK
    assert (reuse.evicted, reuse.spread) == (lost_here * BLOCK, lost_there * BLOCK)
    assert reuse.lost == reuse.reachable - reuse.told
