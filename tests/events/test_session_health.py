"""What a session makes of heartbeats, their absence, contradictions and malformed bytes."""

import pytest

from radixroute.events.session.actions import RequestResend, RequestSnapshot
from radixroute.events.session.states import StreamState
from radixroute.events.wire.control import Malformed
from tests.events.fakes import stored
from tests.events.session_bench import (
    OTHER,
    Bench,
    batch,
    beat,
    honest_beat,
    part,
)


def test_an_idle_worker_is_live_from_its_first_heartbeat(fresh):
    fresh.deliver(beat(None))
    assert fresh.state is StreamState.LIVE
    fresh.deliver(batch(0))
    assert fresh.index == {100}


def test_a_lost_tail_shows_in_the_heartbeat(live):
    assert live.deliver(honest_beat(2))[-1] == RequestResend(1, 2)
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
        (honest_beat(2), StreamState.GAP, RequestResend),
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
