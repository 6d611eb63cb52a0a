"""Engines that cannot say when they looked are judged over a window."""

import pytest

from radixroute.events.wire.records import (
    BlocksRemoved,
)
from tests.audit.hand_made import PROMPT, Bench, W, keys, stored


@pytest.fixture
def bench():
    return Bench()


def _die(bench):
    bench.core.lost(W, "died", 0)
    bench.link.leave(W)


def test_over_a_window_one_difference_is_nothing_and_half_of_all_is_drift(bench, caplog):
    bench.batch(stored(1, 2, 3, 4, 5, 6))
    for _ in range(16):
        bench.tell(6)
    for n in range(17):
        assert bench.record.has_credit, n
        bench.tell(0)
        bench.pass_time(1.1)
    for _ in range(20):
        bench.tell(0)
        bench.pass_time(1.1)
    assert not bench.is_believed
    assert bench.asked >= 1
    assert len(caplog.records) == 1
    assert "it missed" in bench.record.reason


def test_over_a_window_a_belief_that_was_wrong_is_no_difference_but_counts_for_nothing(bench):
    bench.is_cache_believed = True
    _die(bench)
    bench.live(1)
    bench.batch(stored(1, 2, 3, 4, 5, 6))
    for told in [6] * 16 + [0] * 8:
        bench.tell(told)
        bench.pass_time(1.1)
    assert (bench.record.has_credit, bench.record.differing) == (True, 0)
    for _ in range(20):
        bench.tell(0)
        bench.pass_time(1.1)
    assert (bench.record.has_credit, bench.record.differing) == (False, 0)
    assert bench.record.is_believed
    bench.is_cache_believed = False  # its next life tells
    _die(bench)
    bench.live(0)
    assert (bench.record.has_credit, bench.record.is_believed) == (True, False)


def test_over_a_window_credit_comes_back_when_reports_agree(bench):
    bench.batch(stored(1, 2, 3, 4, 5, 6))
    for _ in range(16):
        bench.tell(0)
    bench.pass_time(1.1)
    assert not bench.record.has_credit
    bench.pass_time(100.0)
    bench.snapshot(1, 2)
    for _ in range(2):
        bench.tell(2)
        bench.pass_time(1.1)
    assert bench.is_believed


def test_over_a_window_what_was_gone_for_a_moment_may_be_missing(bench):
    """Evicted and stored again while the request was on its way, or its report was."""
    bench.batch(stored(1, 2, 3, 4, 5, 6))
    for _ in range(40):
        mark = bench.core.audit.mark(W, PROMPT)
        bench.batch(BlocksRemoved(keys(1)))
        bench.batch(stored(1))
        bench.tell(0, mark=mark)
        late = bench.core.audit.mark(W, PROMPT)
        bench.tell(0, mark=late)
        bench.batch(BlocksRemoved(keys(1)))
        bench.batch(stored(1))
        bench.pass_time(1.1)
    assert bench.record.differing == 0
    assert bench.record.judged == 80


def test_over_a_window_a_last_block_computed_again_is_no_difference(bench):
    bench.batch(stored(1, 2, 3))
    for _ in range(40):
        bench.tell(2)
    bench.pass_time(1.1)
    assert bench.sums == (40, 0, 0)


def test_of_several_ranks_the_one_that_a_report_names_is_judged():
    bench = Bench(ranks=2)
    bench.batch(stored(1, 2, 3, 4, 5, 6), rank=0)
    for _ in range(20):
        bench.tell(6, rank=0)
        bench.tell(0, rank=1)
    bench.pass_time(1.1)
    assert bench.sums == (40, 0, 0)
    for _ in range(32):
        bench.tell(0, rank=0)
    bench.pass_time(1.1)
    assert not bench.record.has_credit


def test_of_several_ranks_the_one_that_holds_least_may_have_had_it():
    bench = Bench(ranks=2)
    bench.batch(stored(1, 2, 3, 4, 5, 6), rank=0)
    bench.batch(stored(1, 2, 3), rank=1)
    for _ in range(20):
        bench.tell(2, (0, 0))  # in whose stream?
    bench.pass_time(1.1)
    assert bench.sums == (20, 0, 0)
    for _ in range(32):
        bench.tell(0)
    bench.pass_time(1.1)
    assert not bench.record.has_credit
