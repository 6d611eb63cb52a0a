"""A recording followed later takes the steps that were taken live, and they amount to the truth."""

import random
from collections import Counter

import pytest

from radixroute.events.recording.followed import Agreement
from radixroute.events.recording.follower import TICK_NS, StreamFollower
from radixroute.events.recording.reader import Ending
from radixroute.events.recording.recording import Channel, Joined, Left, Wire
from radixroute.events.session.states import StreamState
from radixroute.events.wire.control import ResendRequest, SnapshotRequest, decode_request
from radixroute.events.wire.native import encode_batch, encode_heartbeat
from radixroute.events.wire.records import EventBatch, SnapshotPart
from radixroute.radix.ids import Holder, Tier, WorkerId
from tests.events.fakes import HOLDER, MS, Faults, removed, stored
from tests.events.recordings import (
    RecordedWorld,
    content_of,
    folded,
    item_of,
    reader_of,
    recorder_of,
    source,
)
from tests.events.session_bench import EPOCH, OTHER, batch, beat, honest_beat
from tests.events.test_vllm_frames import frames_of, lines
from tests.parts import parts

SEEDS = 40


def recorded_world(seed, faults=None):
    world = RecordedWorld(seed, faults)
    world.run(240, is_busy=True)
    return world


def followed_up_to_each(world):
    """The follower of a reader, after each record; with what was read so far."""
    reader = world.finish()
    follower = StreamFollower(reader.header)
    read = []
    for place in reader:
        follower.follow(place.record)
        read.append(place.record)
        yield follower, read
    assert reader.ending is Ending.FINISHED


@pytest.mark.parametrize("seeds", parts(SEEDS, quick=12))
def test_at_every_record_it_is_the_truth_and_what_was_known_live(seeds):
    for seed in seeds:
        world = recorded_world(seed)
        steps = followed_up_to_each(world)
        for (follower, _), lived in zip(steps, world.lived, strict=False):
            assert content_of(follower.index, HOLDER) == lived, f"seed {seed}"
            (standing,) = follower.standings()
            if standing.applied_seq is not None:
                truth = set(world.truths[standing.epoch][standing.applied_seq])
                assert lived == truth, f"seed {seed}"


@pytest.mark.parametrize("seeds", parts(SEEDS, quick=8))
def test_at_any_record_it_is_a_fold_of_the_records_before(seeds):
    n_compared = 0
    for seed in seeds:
        world = recorded_world(seed)
        rng = random.Random(seed)
        for follower, read in followed_up_to_each(world):
            if rng.random() > 0.3:
                continue
            for standing in follower.standings():
                if standing.applied_seq is not None:
                    fold = folded(read, standing.epoch, standing.applied_seq)
                    assert content_of(follower.index, HOLDER) == fold, f"seed {seed}"
                    n_compared += 1
    assert n_compared > 100


def test_with_nothing_lost_every_record_is_applied_as_it_comes():
    for seed in range(5):
        world = recorded_world(seed, Faults())
        for follower, read in followed_up_to_each(world):
            for standing in follower.standings():
                if standing.state is StreamState.LIVE:
                    newest = folded_seq(read, standing.epoch)
                    assert standing.applied_seq == newest, f"seed {seed}"


def folded_seq(records, epoch):
    """The newest batch or snapshot among the records."""
    items = [item_of(record) for record in records]
    seqs = [
        item.seq
        for item in items
        if isinstance(item, EventBatch | SnapshotPart) and item.epoch == epoch
    ]
    return max((seq for seq in seqs if seq is not None), default=None)


def test_the_faults_really_happen():
    worlds = [recorded_world(seed) for seed in range(12)]
    states = set()
    gaps = rejected = 0
    for world in worlds:
        for follower, _ in followed_up_to_each(world):
            for standing in follower.standings():
                states.add(standing.state)
                gaps, rejected = gaps + standing.gaps, rejected + standing.rejected
    assert states == set(StreamState)
    assert gaps > 0
    assert rejected > 0
    assert sum(len(world.truths) for world in worlds) > len(worlds)  # restarts


class OrderlyWorld(RecordedWorld):
    """One batch a step, all of them sent, and no restarts."""

    def _work(self) -> None:
        events = self.cache.step()
        self.truth_after.append(Counter(self.cache.truth))
        self.events.send(self.stream.record(events, 0.0), self.now_ns)


def test_a_gap_is_healed_by_the_resend_that_was_recorded():
    world = OrderlyWorld(1, Faults())
    world.run(60, is_busy=True)
    world.lose_next(3)
    world.run(60, is_busy=True)
    steps = [one for follower, _ in followed_up_to_each(world) for one in follower.standings()]
    assert StreamState.GAP in {one.state for one in steps}
    assert (steps[-1].state, steps[-1].gaps) == (StreamState.LIVE, 1)
    assert steps[-1].agreement is Agreement.AGREES


def test_a_gap_that_was_never_mended_stays_one():
    recorder, file = recorder_of(source())
    for seq, one in enumerate((batch(0), batch(1), batch(3))):
        recorder.message(seq * MS, 0, Channel.EVENTS, encode_batch(one))
    asked = []
    follower = followed(file, lambda number, frames: asked.append((number, decode_request(frames))))
    (standing,) = follower.standings()
    assert (standing.state, standing.applied_seq, standing.gaps) == (StreamState.GAP, 1, 1)
    assert content_of(follower.index, HOLDER) == {(100, Tier.DEVICE), (101, Tier.DEVICE)}
    assert asked == [(0, SnapshotRequest()), (0, ResendRequest(2, 3))]


def followed(file, *args):
    reader = reader_of(file)
    follower = StreamFollower(reader.header, *args)
    for place in reader:
        follower.follow(place.record)
    follower.check()
    return follower


def test_silence_is_noticed_by_the_recordings_own_time():
    recorder, file = recorder_of(source())
    recorder.message(0, 0, Channel.EVENTS, encode_heartbeat(beat(None)))
    recorder.message(1, 0, Channel.EVENTS, encode_batch(batch(0)))
    follower = followed(file)
    assert follower.standings()[0].state is StreamState.LIVE
    follower.advance(900 * MS)
    assert follower.standings()[0].state is StreamState.LIVE
    follower.advance(1200 * MS)
    assert follower.standings()[0].state is StreamState.STALE


def test_a_long_silence_takes_few_ticks(monkeypatch):
    ticks: list[int] = []
    follower = StreamFollower(recorder_of(source())[0].header)
    (streams,) = follower._by_source.values()
    monkeypatch.setattr(streams, "tick", ticks.append)
    follower.advance(3600 * 10**9)
    assert len(ticks) <= 101
    assert ticks[-1] == 3600 * 10**9
    follower.advance(3600 * 10**9 + 2 * TICK_NS)
    assert ticks[-2:] == [3600 * 10**9 + TICK_NS, 3600 * 10**9 + 2 * TICK_NS]


def test_the_heartbeats_account_is_compared_whichever_comes_first():
    recorder, file = recorder_of(source())
    frames = [encode_batch(batch(0)), encode_heartbeat(honest_beat(1)), encode_batch(batch(1))]
    for one in frames:
        recorder.message(0, 0, Channel.EVENTS, one)
    (standing,) = followed(file).standings()
    assert (standing.agreement, standing.agreed_seq) == (Agreement.AGREES, 1)


def test_an_account_that_contradicts_is_told():
    recorder, file = recorder_of(source())
    lie = batch(0, stored(None, 999))
    for one in (encode_batch(lie), encode_heartbeat(honest_beat(0))):
        recorder.message(0, 0, Channel.EVENTS, one)
    (standing,) = followed(file).standings()
    assert (standing.agreement, standing.state) == (Agreement.DIFFERS, StreamState.RESYNC)


def test_a_new_life_begins_with_nothing_and_old_batches_do_not_count():
    recorder, file = recorder_of(source())
    recorder.message(0, 0, Channel.EVENTS, encode_batch(batch(0)))
    recorder.join(1, source(epoch=OTHER))
    recorder.message(2, 1, Channel.EVENTS, encode_batch(batch(0, epoch=EPOCH)))
    recorder.message(2, 1, Channel.EVENTS, encode_batch(batch(0, stored(None, 7), epoch=OTHER)))
    recorder.message(3, 0, Channel.EVENTS, encode_batch(batch(1)))
    follower = followed(file)
    assert content_of(follower.index, HOLDER) == {(7, Tier.DEVICE)}
    assert [(one.epoch, one.rejected) for one in follower.standings()] == [(OTHER, 1)]
    assert follower.unheard == 1


def test_a_source_that_left_is_forgotten():
    recorder, file = recorder_of(source("a"), source("b"))
    for number in (0, 1):
        recorder.message(0, number, Channel.EVENTS, encode_batch(batch(0)))
    recorder.leave(1, 0)
    follower = followed(file)
    assert [one.holder.worker for one in follower.standings()] == ["b"]
    assert follower.index.holders == (Holder(WorkerId("b")),)


def test_ranks_on_one_endpoint_are_kept_apart():
    recorder, file = recorder_of(source(ranks=2))
    for rank, key in ((0, 5), (1, 6), (7, 8)):
        frames = encode_batch(batch(0, stored(None, key), rank=rank))
        recorder.message(0, 0, Channel.EVENTS, frames)
    recorder.message(0, 0, Channel.EVENTS, [b"garbage"])
    follower = followed(file)
    first, second = follower.standings()
    assert content_of(follower.index, first.holder) == {(5, Tier.DEVICE)}
    assert content_of(follower.index, second.holder) == {(6, Tier.DEVICE)}
    assert (first.rejected, second.rejected) == (1, 2)  # the garbage; and a rank there is not


def test_a_foreign_stream_is_keyed_and_followed_in_order():
    recorder, file = recorder_of(source("vllm", wire=Wire.FOREIGN, epoch=b"", control=""))
    frames = [frames_of(line) for line in lines("pub", "shared-prefix")]
    for one in frames:
        recorder.message(0, 0, Channel.EVENTS, one)
    recorder.message(0, 0, Channel.EVENTS, [b"garbage"])
    follower = followed(file)
    (standing,) = follower.standings()
    assert content_of(follower.index, standing.holder)
    assert (standing.gaps, standing.rejected, standing.state) == (0, 1, StreamState.LIVE)
    recorder.message(0, 0, Channel.EVENTS, [frames[0][0], (10**6).to_bytes(8, "big"), frames[0][2]])
    follower = followed(file)
    (standing,) = follower.standings()
    # Nobody can be asked: what came before the gap may be gone, so it does not count any more.
    assert (standing.gaps, standing.known_from, standing.applied_seq) == (1, 10**6, 10**6)


def test_a_foreign_engine_that_keeps_a_gap_open_is_believed_up_to_it():
    engine = source("vllm", wire=Wire.FOREIGN, epoch=b"")
    recorder, file = recorder_of(engine)
    frames = [frames_of(line) for line in lines("pub", "evict")]
    for at_ns, one in ((0, frames[0]), (1, frames[2])):
        recorder.message(at_ns, 0, Channel.EVENTS, one)
    asked = []
    follower = followed(file, lambda number, frames: asked.append((number, *frames)))
    (standing,) = follower.standings()
    assert (standing.state, standing.applied_seq) == (StreamState.SYNCING, 0)
    assert asked == [(0, b"", bytes(8))]  # one at a time, and it is not over
    for one in ([b"", *frames[0][1:]], [b"", *frames[1][1:]], [b"", b"\xff" * 8, b""]):
        recorder.message(2, 0, Channel.CONTROL, one)
    (standing,) = followed(file).standings()
    assert (standing.state, standing.applied_seq, standing.known_from) == (StreamState.LIVE, 2, 0)


def test_removals_and_tiers_reach_the_index():
    recorder, file = recorder_of(source())
    events = stored(None, 1, 2), stored(None, 1, tier=Tier.HOST), removed(1)
    recorder.message(0, 0, Channel.EVENTS, encode_batch(batch(0, *events)))
    assert content_of(followed(file).index, HOLDER) == {(2, Tier.DEVICE), (1, Tier.HOST)}


def test_records_of_the_follower_are_those_of_the_recorder():
    recorder, _ = recorder_of(source())
    follower = StreamFollower(recorder.header)
    number, joined = recorder.join(0, source("b"))
    assert isinstance(joined, Joined)
    follower.follow(joined)
    assert follower.standings_of(number)[0].holder.worker == "b"
    left = recorder.leave(0, number)
    assert isinstance(left, Left)
    follower.follow(left)
    assert follower.standings_of(number) == []
