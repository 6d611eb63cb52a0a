"""The session's states one by one: what each input leads to, and what it asks for."""

import pytest

from radixroute.events.actions import Apply, RequestReplay, RequestSnapshot, Reset, StateChanged
from radixroute.events.control import Malformed, ReplayDone
from radixroute.events.epoch import make_epoch
from radixroute.events.errors import LocalEventError
from radixroute.events.mirror import StreamMirror
from radixroute.events.records import EventBatch, Heartbeat, SnapshotPart
from radixroute.events.session import StreamSession
from radixroute.events.settings import SessionSettings
from radixroute.events.states import TRANSITIONS, Cause, StreamState, follow
from tests.events.fakes import LOAD, MS, RouterEnd, removed, stored

EPOCH = make_epoch(1, b"11111111")
OTHER = make_epoch(2, b"22222222")
SECOND = 1_000_000_000
SETTINGS = SessionSettings(max_buffered_batches=4, max_replay_batches=8)


def batch(seq, *events, epoch=EPOCH, rank=0) -> EventBatch:
    return EventBatch(epoch, rank, seq, events or (stored(None, 100 + seq),))


def beat(last_seq, *events, epoch=EPOCH, rank=0) -> Heartbeat:
    mirror = StreamMirror()
    for event in events:
        mirror.apply(event)
    return Heartbeat(epoch, rank, last_seq, mirror.n_blocks, mirror.digest, LOAD)


def honest_beat(last_seq) -> Heartbeat:
    """What a publisher says after the default batches 0 to `last_seq`."""
    return beat(last_seq, *(stored(None, 100 + seq) for seq in range(last_seq + 1)))


def part(seq, *runs, index=0, count=1, epoch=EPOCH) -> SnapshotPart:
    return SnapshotPart(epoch, 0, seq, index, count, runs)


class Bench:
    """A session, a clock and the actions of the last input."""

    def __init__(self, *, is_live: bool = False) -> None:
        self.session = StreamSession(0, SETTINGS)
        self.router = RouterEnd(self.session)
        self.now_ns = 0
        self.actions = self._done(self.session.confirm_epoch(EPOCH, 0))
        if is_live:
            self.deliver(batch(0))

    @property
    def state(self):
        return self.session.state

    def is_in(self, state) -> bool:
        return self.session.state is state

    @property
    def index(self):
        return {key for key, _ in self.router.index}

    def deliver(self, *items):
        actions = []
        for item in items:
            actions += self._done(self.session.deliver(item, self.now_ns))
        return actions

    def later(self, ms: int):
        self.now_ns += ms * MS
        return self._done(self.session.tick(self.now_ns))

    def _done(self, actions):
        self.router.carry_out(actions)
        self.session.check()
        return actions


@pytest.fixture
def fresh():
    return Bench()


@pytest.fixture
def live():
    return Bench(is_live=True)


def test_a_confirmed_epoch_starts_from_nothing_and_asks_for_a_snapshot(fresh):
    assert fresh.state is StreamState.SYNCING
    assert Reset() in fresh.actions
    assert fresh.actions[-1] == RequestSnapshot()
    assert not fresh.state.is_credited


def test_nothing_counts_before_an_epoch_is_confirmed():
    session = StreamSession()
    assert session.deliver(batch(0), 0) == []
    assert session.deliver(beat(None), 0) == []
    assert session.tick(10 * SECOND) == []
    assert session.counters.foreign == 2


def test_confirming_the_same_epoch_again_changes_nothing(live):
    assert live.session.confirm_epoch(EPOCH, live.now_ns) == []
    assert live.state is StreamState.LIVE


def test_the_first_batch_of_an_epoch_needs_no_snapshot(fresh):
    fresh.deliver(batch(0))
    assert (fresh.state, fresh.index) == (StreamState.LIVE, {100})
    assert fresh.session.applied_seq == 0


def test_an_idle_worker_is_live_from_its_first_heartbeat(fresh):
    fresh.deliver(beat(None))
    assert fresh.state is StreamState.LIVE
    fresh.deliver(batch(0))
    assert fresh.index == {100}


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


def test_a_gap_holds_later_batches_back_and_asks_for_a_replay(live):
    actions = live.deliver(batch(3))
    assert live.state is StreamState.GAP
    assert live.state.is_credited
    assert actions[-1] == RequestReplay(1, 3)
    assert live.index == {100}
    live.deliver(batch(1))
    assert (live.state, live.index) == (StreamState.GAP, {100, 101})
    live.deliver(batch(2))
    assert (live.state, live.index) == (StreamState.LIVE, {100, 101, 102, 103})
    assert live.deliver(ReplayDone(EPOCH, 1)) == []
    assert live.session.counters.late_replies == 1


def test_only_one_request_is_outstanding(live):
    live.deliver(batch(3))
    assert not any(isinstance(a, RequestReplay) for a in live.deliver(batch(5)))
    assert live.session.counters.replays_requested == 1


def test_batches_lost_during_a_replay_are_asked_for_next(live):
    live.deliver(batch(2), batch(5))
    live.deliver(batch(1))
    assert live.session.applied_seq == 2
    actions = live.deliver(ReplayDone(EPOCH, 1))
    assert actions == [RequestReplay(3, 5)]


def test_a_replay_that_mends_nothing_leads_to_a_snapshot(live):
    live.later(300)
    live.deliver(batch(3))
    actions = live.deliver(ReplayDone(EPOCH, 1))
    assert live.state is StreamState.RESYNC
    assert actions[-1] == RequestSnapshot()
    assert live.index == {100}  # kept until the snapshot is whole
    live.deliver(part(2, stored(None, 1)))
    assert (live.state, live.index) == (StreamState.LIVE, {1, 103})


def test_a_replay_without_an_answer_leads_to_a_snapshot(live):
    live.deliver(honest_beat(0), batch(3))
    live.later(900)
    live.deliver(honest_beat(0))
    assert live.state is StreamState.GAP
    assert live.later(200)[-1] == RequestSnapshot()
    assert live.session.counters.timeouts == 1


def test_a_gap_longer_than_a_replay_is_worth_leads_to_a_snapshot(live):
    live.later(300)
    assert live.deliver(batch(50))[-1] == RequestSnapshot()
    assert live.state is StreamState.RESYNC


def test_a_full_buffer_loses_its_oldest_and_is_counted(fresh):
    fresh.deliver(*(batch(seq) for seq in range(10, 16)))
    assert fresh.session.counters.overflows == 2
    fresh.deliver(part(12))
    assert fresh.session.applied_seq == 15


def test_a_lost_tail_shows_in_the_heartbeat(live):
    assert live.deliver(honest_beat(2))[-1] == RequestReplay(1, 2)
    assert live.state is StreamState.GAP


def test_a_heartbeat_that_agrees_changes_nothing(live):
    assert live.deliver(honest_beat(0)) == []
    assert live.state is StreamState.LIVE


def test_a_heartbeat_older_than_what_is_applied_proves_nothing(live):
    live.deliver(batch(1))
    assert live.deliver(honest_beat(0)) == []
    assert live.state is StreamState.LIVE


@pytest.mark.parametrize("lie", [beat(0, stored(None, 99)), beat(0)], ids=["digest", "count"])
def test_a_contradiction_leads_to_a_snapshot(live, lie):
    live.later(300)
    assert live.deliver(lie)[-1] == RequestSnapshot()
    assert live.state is StreamState.RESYNC
    assert not live.state.is_credited
    live.deliver(part(0, stored(None, 99)))
    assert (live.state, live.index) == (StreamState.LIVE, {99})


def test_a_snapshot_older_than_what_was_applied_is_followed_by_a_replay(live):
    live.later(300)
    live.deliver(batch(1), batch(2), Malformed("x"))
    live.deliver(part(0, stored(None, 100)))
    assert (live.state, live.index) == (StreamState.LIVE, {100})
    assert live.deliver(honest_beat(2))[-1] == RequestReplay(1, 2)
    live.deliver(batch(1), batch(2))
    assert (live.state, live.index) == (StreamState.LIVE, {100, 101, 102})


def test_malformed_bytes_resync_their_sender_once(live):
    live.later(300)
    assert live.deliver(Malformed("x"))[-1] == RequestSnapshot()
    assert live.deliver(Malformed("x")) == []
    assert live.session.counters.malformed == 2


def test_a_sender_that_keeps_contradicting_itself_is_asked_less_and_less():
    bench = Bench(is_live=True)
    asked = []
    for step in range(200):
        bench.deliver(beat(0, stored(None, 99)))  # never agrees with the snapshot
        if any(isinstance(a, RequestSnapshot) for a in bench.later(100)):
            asked.append(step)
        if bench.state is StreamState.RESYNC:
            bench.deliver(part(0, stored(None, 100)))
    assert 4 <= len(asked) <= 9
    assert asked[-1] - asked[-2] > 20


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


def test_silence_makes_a_stream_stale_and_a_good_heartbeat_brings_it_back(live):
    assert live.later(1000) == []
    live.later(1)
    assert live.state is StreamState.STALE
    assert not live.state.is_credited
    assert live.later(5000) == []
    live.deliver(honest_beat(0))
    assert (live.state, live.index) == (StreamState.LIVE, {100})


def test_heartbeats_of_another_epoch_are_silence(live):
    for _ in range(6):
        live.deliver(beat(0, epoch=OTHER))
        live.later(250)
    assert live.state is StreamState.STALE


@pytest.mark.parametrize(
    ("heard", "state", "asks"),
    [
        (honest_beat(2), StreamState.GAP, RequestReplay),
        (beat(0), StreamState.RESYNC, RequestSnapshot),
    ],
    ids=["behind", "wrong"],
)
def test_a_heartbeat_after_silence_tells_what_is_missing(live, heard, state, asks):
    live.later(1100)
    actions = live.deliver(heard)
    assert live.state is state
    assert isinstance(actions[-1], asks)


def test_malformed_bytes_in_silence_are_not_forgotten(live):
    live.later(1100)
    live.deliver(Malformed("x"))
    live.deliver(honest_beat(0))
    assert live.state is StreamState.RESYNC


def test_an_old_heartbeat_after_silence_proves_nothing(live):
    live.deliver(batch(1))
    live.later(1100)
    assert live.deliver(honest_beat(0)) == []
    assert live.is_in(StreamState.STALE)
    live.deliver(honest_beat(1))
    assert live.is_in(StreamState.LIVE)


def test_batches_in_silence_are_applied_without_trusting_them(live):
    live.later(1100)
    live.deliver(batch(1))
    assert (live.state, live.index) == (StreamState.STALE, {100, 101})


def test_a_worker_silent_from_the_start_is_synced_when_heard(fresh):
    fresh.later(1100)
    assert fresh.is_in(StreamState.STALE)
    assert fresh.deliver(honest_beat(4))[-1] == RequestSnapshot()
    assert fresh.is_in(StreamState.SYNCING)
    again = Bench()
    again.later(1100)
    again.deliver(beat(None))
    assert again.state is StreamState.LIVE


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
