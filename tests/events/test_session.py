"""The session's states one by one: batches, gaps, snapshots, epochs."""

import pytest

from radixroute.events.errors import LocalEventError
from radixroute.events.session.actions import (
    Apply,
    RequestResend,
    RequestSnapshot,
    Reset,
    StateChanged,
)
from radixroute.events.session.states import TRANSITIONS, Cause, StreamState, follow
from radixroute.events.wire.control import Malformed, ResendDone
from tests.events.fakes import RouterEnd, removed, stored
from tests.events.session_bench import (
    EPOCH,
    OTHER,
    Bench,
    batch,
    beat,
    honest_beat,
    part,
)


def test_a_confirmed_epoch_starts_from_nothing_and_asks_for_a_snapshot(fresh):
    assert fresh.state is StreamState.SYNCING
    assert Reset() in fresh.actions
    assert fresh.actions[-1] == RequestSnapshot()
    assert not fresh.state.is_credited


def test_nothing_counts_before_an_epoch_is_confirmed():
    session = RouterEnd().session
    assert session.deliver(batch(0), 0) == []
    assert session.deliver(beat(None), 0) == []
    assert session.tick(10**10) == []
    assert session.counters.foreign == 2


def test_confirming_the_same_epoch_again_changes_nothing(live):
    assert live.session.confirm_epoch(EPOCH, live.now_ns) == []
    assert live.state is StreamState.LIVE


def test_the_first_batch_of_an_epoch_needs_no_snapshot(fresh):
    fresh.deliver(batch(0))
    assert (fresh.state, fresh.index) == (StreamState.LIVE, {100})
    assert fresh.session.applied_seq == 0


def test_a_late_joiner_gets_a_snapshot_and_the_batches_after_it(fresh):
    fresh.deliver(batch(5), batch(7), batch(6))
    assert (fresh.state, fresh.index) == (StreamState.SYNCING, set())
    fresh.deliver(part(5, stored(None, 1, 2), stored(2, 3)))
    assert (fresh.state, fresh.index) == (StreamState.LIVE, {1, 2, 3, 106, 107})
    assert fresh.session.applied_seq == 7


def test_parts_of_a_snapshot_may_come_in_any_order_and_twice(fresh):
    first, second = part(5, stored(None, 1), count=2), part(5, stored(1, 2), index=1, count=2)
    fresh.deliver(second, second)
    assert fresh.state is StreamState.SYNCING
    fresh.deliver(first)
    assert (fresh.state, fresh.index) == (StreamState.LIVE, {1, 2})


def test_parts_of_two_snapshots_never_mix(fresh):
    fresh.deliver(part(5, stored(None, 1), count=2))
    fresh.deliver(part(6, stored(None, 8), index=1, count=2))
    assert fresh.state is StreamState.SYNCING
    fresh.deliver(part(5, stored(None, 2), index=1, count=2))  # the older one is given up
    assert fresh.state is StreamState.SYNCING
    fresh.deliver(part(6, stored(None, 7), count=2))
    assert fresh.index == {7, 8}


def test_contiguous_batches_are_applied_at_once(live):
    assert [type(action) for action in live.deliver(batch(1))] == [Apply]
    assert live.index == {100, 101}


def test_duplicates_are_dropped_and_counted(live):
    assert live.deliver(batch(0)) == []
    assert live.session.counters.duplicates == 1


def test_a_gap_holds_later_batches_back_and_asks_for_a_resend(live):
    actions = live.deliver(batch(3))
    assert live.state is StreamState.GAP
    assert live.state.is_credited
    assert actions[-1] == RequestResend(1, 3)
    assert live.index == {100}
    live.deliver(batch(1))
    assert (live.state, live.index) == (StreamState.GAP, {100, 101})
    live.deliver(batch(2))
    assert (live.state, live.index) == (StreamState.LIVE, {100, 101, 102, 103})
    assert live.deliver(ResendDone(EPOCH, 1)) == []
    assert live.session.counters.late_replies == 1


def test_only_one_request_is_outstanding(live):
    live.deliver(batch(3))
    assert not any(isinstance(a, RequestResend) for a in live.deliver(batch(5)))
    assert live.session.counters.resends_requested == 1


def test_batches_lost_during_a_resend_are_asked_for_next(live):
    live.deliver(batch(2), batch(5))
    live.deliver(batch(1))
    assert live.session.applied_seq == 2
    actions = live.deliver(ResendDone(EPOCH, 1))
    assert actions == [RequestResend(3, 5)]


def test_a_resend_that_mends_nothing_leads_to_a_snapshot(live):
    live.later(300)
    live.deliver(batch(3))
    actions = live.deliver(ResendDone(EPOCH, 1))
    assert live.state is StreamState.RESYNC
    assert actions[-1] == RequestSnapshot()
    assert live.index == {100}  # kept until the snapshot is whole
    live.deliver(part(2, stored(None, 1)))
    assert (live.state, live.index) == (StreamState.LIVE, {1, 103})


def test_a_resend_without_an_answer_leads_to_a_snapshot(live):
    live.deliver(honest_beat(0), batch(3))
    live.later(900)
    live.deliver(honest_beat(0))
    assert live.state is StreamState.GAP
    assert live.later(200)[-1] == RequestSnapshot()
    assert live.session.counters.timeouts == 1


def test_a_gap_longer_than_a_resend_is_worth_leads_to_a_snapshot(live):
    live.later(300)
    assert live.deliver(batch(50))[-1] == RequestSnapshot()
    assert live.state is StreamState.RESYNC


def test_a_full_buffer_loses_its_oldest_and_is_counted(fresh):
    fresh.deliver(*(batch(seq) for seq in range(10, 16)))
    assert fresh.session.counters.overflows == 2
    fresh.deliver(part(12))
    assert fresh.session.applied_seq == 15


def test_a_snapshot_older_than_what_was_applied_is_followed_by_a_resend(live):
    live.later(300)
    live.deliver(batch(1), batch(2), Malformed("x"))
    live.deliver(part(0, stored(None, 100)))
    assert (live.state, live.index) == (StreamState.LIVE, {100})
    assert live.deliver(honest_beat(2))[-1] == RequestResend(1, 2)
    live.deliver(batch(1), batch(2))
    assert (live.state, live.index) == (StreamState.LIVE, {100, 101, 102})


def test_another_epoch_is_dropped_and_counted_whatever_its_number(live):
    assert live.deliver(batch(1, epoch=OTHER), honest_beat(0), beat(None, epoch=OTHER)) == []
    assert live.session.counters.foreign == 2
    assert live.index == {100}


def test_another_rank_is_dropped_and_counted(live):
    assert live.deliver(batch(1, rank=1), beat(0, rank=2)) == []
    assert live.session.counters.wrong_rank == 2


def test_a_new_epoch_forgets_the_old_one_at_once(live):
    live.deliver(batch(3))
    actions = live._done(live.session.confirm_epoch(OTHER, live.now_ns))
    assert Reset() in actions
    assert (live.state, live.index) == (StreamState.SYNCING, set())
    live.deliver(batch(1), batch(0, epoch=OTHER))
    assert (live.state, live.index) == (StreamState.LIVE, {100})


def test_a_snapshot_without_an_answer_is_asked_for_again(fresh):
    fresh.deliver(honest_beat(3))
    asked = 0
    for _ in range(60):
        fresh.deliver(honest_beat(3))
        asked += sum(isinstance(a, RequestSnapshot) for a in fresh.later(100))
    assert (asked, fresh.session.counters.timeouts) == (3, 3)


def test_a_part_gives_the_rest_of_a_snapshot_its_time_again(fresh):
    for index in range(5):
        fresh.deliver(honest_beat(3), part(3, stored(None, index + 1), index=index, count=6))
        assert fresh.later(900) == []
        fresh.deliver(honest_beat(3))
        assert fresh.later(900) == []
    fresh.deliver(part(3, stored(None, 6), index=5, count=6))
    assert fresh.index == {1, 2, 3, 4, 5, 6}


def test_a_snapshot_nobody_asked_for_is_dropped_and_counted(live):
    assert live.deliver(part(9, stored(None, 1))) == []
    assert live.session.counters.unwanted_parts == 1


def test_a_batch_beyond_a_hole_is_forgotten_with_the_next_snapshot(fresh):
    fresh.deliver(batch(2**40), part(0, stored(None, 1)))
    assert (fresh.state, fresh.index) == (StreamState.LIVE, {1})
    fresh.deliver(beat(0, stored(None, 1)))
    assert fresh.state is StreamState.LIVE


def test_removals_of_two_copies_need_two_events(live):
    live.deliver(batch(1, stored(None, 100)), batch(2, removed(100)))
    assert live.index == {100}
    live.deliver(batch(3, removed(100)))
    assert live.index == set()


def test_every_change_of_state_is_reported_and_in_the_table():
    bench = Bench(is_live=True)
    seen = bench.later(1100) + bench.deliver(honest_beat(2)) + bench.deliver(Malformed("x"))
    changes = [action for action in seen if isinstance(action, StateChanged)]
    assert [change.new for change in changes] == [
        StreamState.STALE,
        StreamState.GAP,
        StreamState.RESYNC,
    ]
    for change in changes:
        assert TRANSITIONS[change.old, change.cause] is change.new


def test_a_transition_that_is_not_in_the_table_is_our_error():
    with pytest.raises(LocalEventError):
        follow(StreamState.LIVE, Cause.MENDED)


def test_every_state_can_be_left_and_reached():
    assert {state for state, _ in TRANSITIONS} == set(StreamState)
    assert set(TRANSITIONS.values()) == set(StreamState)
    assert {cause for _, cause in TRANSITIONS} == set(Cause)
