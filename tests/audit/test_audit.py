"""Judging, credit and its return, on hand-made streams."""

import numpy as np
import pytest

from radixroute.events.wire.control import Delivery
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    EventBatch,
)
from radixroute.radix.ids import Holder
from radixroute.radix.index.prefix_index import MIN_BYTES
from radixroute.request.sampling import SamplingParams
from radixroute.router.counters import Count
from radixroute.router.messages.inputs import RequestSpec
from tests.audit.hand_made import PROMPT, Bench, S, W, keys, stored


@pytest.fixture
def bench():
    return Bench()


def test_what_agrees_costs_nothing(bench):
    bench.batch(stored(1, 2, 3))
    bench.tell_now(3)
    assert bench.sums == (1, 0, 0)
    assert bench.is_believed
    assert bench.asked == 0


@pytest.mark.parametrize(("told", "kind"), [(2, Count.AUDIT_TOLD_LESS), (4, Count.AUDIT_TOLD_MORE)])
def test_one_difference_takes_the_credit_and_asks_for_a_snapshot(bench, told, kind):
    bench.batch(stored(1, 2, 3))
    bench.tell_now(told)
    assert bench.sums == (1, 1, 0)
    assert not bench.is_believed
    assert f"found {told} blocks of a prompt where its events say 3" in bench.record.reason
    assert bench.core._state.counters[kind] == 1
    assert bench.asked == 1
    status = bench.link.status(W)
    assert status is not None
    assert status.state == "resync"


def test_it_is_compared_with_the_moment_it_names_whatever_came_since(bench):
    bench.batch(stored(1, 2), stored(3), BlocksRemoved(keys(2)))
    seq = bench.seqs[0] - 1
    bench.batch(stored(2), stored(3, 4))
    for before, held in enumerate((0, 2, 3)):
        bench.tell(held, (seq, before))
    bench.tell(1, (seq + 1, 0))
    bench.tell(4, (seq + 2, 0))
    assert bench.sums == (5, 0, 0)


def test_a_report_waits_for_the_batches_it_speaks_of(bench):
    bench.tell(3, (2, 0))
    bench.tell(2, (2, 1))
    bench.batch(stored(1, 2, 3))
    assert bench.sums == (1, 0, 0)
    bench.batch(BlocksRemoved(keys(3)), BlocksRemoved(keys(2)))
    assert bench.sums == (2, 0, 0)


def test_a_report_waits_while_a_batch_is_missing_and_is_not_lost_with_a_snapshot(bench):
    bench.batch(stored(5), seq=2)
    bench.tell(3, (3, 0))
    assert bench.sums == (0, 0, 0)
    bench.batch(stored(1, 2, 3), seq=1)
    assert bench.sums == (1, 0, 0)
    bench.link.receive([Delivery(Holder(W), EventBatch(bench.epoch, 0, 9, ()))], 0)
    bench.tell(3, (10, 0))
    bench.seqs[0] = 10
    bench.core.audit.rebuilding(Holder(W))
    bench.core.audit.based(Holder(W), 10)
    assert bench.sums == (2, 0, 0)


def test_what_was_before_a_snapshot_is_not_judged(bench):
    bench.batch(stored(1))
    bench.tell_now(0)
    bench.snapshot(1, 2)
    bench.tell(0, (1, 0))
    assert bench.sums == (1, 1, 1)


def test_a_clear_between_is_not_judged(bench):
    bench.batch(CacheCleared())
    bench.tell(3, (1, 0))
    assert bench.sums == (0, 0, 1)


def lose(bench):
    """Its events claim what it has not."""
    bench.batch(stored(1, 2, 3))
    bench.tell_now(0)
    assert not bench.is_believed
    bench.pass_time(100.0)


def test_credit_comes_back_when_reports_agree_after_the_snapshot(bench):
    lose(bench)
    bench.snapshot(1, 2)
    assert not bench.is_believed
    bench.tell_now(2)
    assert not bench.is_believed
    bench.tell_now(2)
    assert bench.is_believed
    assert bench.record.reason == ""
    assert bench.core._state.counters[Count.CREDIT_RETURNED] == 1


def predicted(bench, name):
    """Prompt tokens that the router counts on where it sends such a request."""
    spec = RequestSpec(
        request_id=name,
        prompt=np.zeros(8 * 16 + 3, np.uint32),
        keys=PROMPT,
        sampling=SamplingParams(max_tokens=5),
        policy="radix",
        arrival_ns=bench.now_ns,
        deadline_ns=bench.now_ns + 100 * S,
    )
    assert bench.core.submit(spec, bench.now_ns), "it waits"
    tokens = bench.core.predicted_tokens(name)
    bench.core.abort(name, bench.now_ns)
    return tokens


def test_without_credit_its_blocks_count_for_nothing_and_it_serves_on(bench):
    bench.batch(stored(1, 2, 3))
    assert predicted(bench, "a") == 48
    bench.tell_now(0)
    assert predicted(bench, "b") == 0
    bench.pass_time(100.0)
    bench.snapshot(1, 2)
    assert predicted(bench, "c") == 0
    bench.tell_now(2)
    bench.tell_now(2)
    assert predicted(bench, "d") == 32


def test_prompts_of_which_nothing_is_held_give_no_credit_back(bench):
    lose(bench)
    bench.snapshot()
    for _ in range(50):
        bench.tell_now(0)
    assert bench.record.differing == 1
    assert not bench.is_believed


def test_each_relapse_takes_twice_as_many_to_come_back(bench):
    needed = []
    for _ in range(8):
        lose(bench)
        bench.snapshot(1, 2)
        n = 0
        while not bench.is_believed and n < 100:
            bench.tell_now(2)
            n += 1
        needed.append(n)
    assert needed == [2, 4, 8, 16, 32, 64, 64, 64]
    for _ in range(256):
        bench.tell_now(2)
    lose(bench)
    bench.snapshot(1, 2)
    bench.tell_now(2)
    bench.tell_now(2)
    assert bench.is_believed


def test_a_difference_on_probation_begins_it_anew(bench):
    lose(bench)
    bench.snapshot(1, 2)
    for _ in range(5):
        bench.tell_now(2)
        bench.tell_now(1)
    assert not bench.is_believed


def test_a_snapshot_that_repeats_the_lie_is_asked_for_ever_more_seldom(bench, caplog):
    lose(bench)
    asked: list[int] = []
    for n in range(1, 401):
        bench.pass_time(100.0)
        bench.snapshot(1, 2, 3)
        bench.tell_now(0)
        if len(asked) < len(caplog.records) - 1:
            asked.append(n)
    assert not bench.is_believed
    assert asked == [2, 6, 14, 30, 62, 126, 190, 254, 318, 382]


def test_the_same_life_keeps_its_record_and_another_one_begins_with_credit(bench):
    lose(bench)
    bench.core.lost(W, "its session broke", 0)
    bench.link.leave(W)
    bench.live(0)
    assert not bench.is_believed
    bench.core.lost(W, "died", 0)
    bench.link.leave(W)
    bench.live(1)
    assert bench.is_believed


def test_who_leaves_takes_its_reports_along(bench):
    bench.tell(3, (7, 0))
    bench.link.leave(W)
    assert bench.sums == (0, 0, 1)
    bench.tell(3, (7, 0))
    assert bench.sums == (0, 0, 2)


def test_reports_that_wait_are_bounded(bench):
    for _ in range(1100):
        bench.tell(3, (7, 0))
    assert bench.sums == (0, 0, 76)


def test_an_index_that_forgot_believes_in_less_and_is_not_called_a_lie():
    bench = Bench(index_bytes=MIN_BYTES)
    numbers = np.arange(1, 60_000, dtype=np.uint64) << np.uint64(20)
    bench.batch(stored(1, 2, 3))
    for start in range(0, len(numbers), 1000):
        bench.batch(BlocksStored(None, numbers[start : start + 1000]))
    assert bench.index.forgotten_by(Holder(W)) > 0
    assert bench.index.overlaps(PROMPT).blocks_of(Holder(W)) < 3
    bench.tell_now(3)
    assert bench.sums == (0, 0, 1)


def test_who_names_batches_that_never_come_is_judged_by_what_it_held_all_the_time(bench):
    bench.batch(stored(1, 2, 3, 4))
    for _ in range(20):
        bench.tell(0, (1 << 40, 0))
    bench.pass_time(9.0)
    assert bench.sums == (0, 0, 0)
    bench.pass_time(2.0)
    assert bench.record.judged == 20
    assert not bench.record.has_credit
