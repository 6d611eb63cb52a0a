"""What the event plane hands to a loop at once is bounded: by items, by bytes, by blocks."""

from typing import Any

import numpy as np
import pytest

from radixroute.events.session.states import StreamState
from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.inbox import Inbox
from radixroute.events.subscribe.native_source import NativeSource
from radixroute.events.subscribe.stream_source import LoadReported
from radixroute.events.wire.control import Delivery, Malformed
from radixroute.events.wire.native import decode_frames, encode_batch
from radixroute.events.wire.records import BlocksStored, Heartbeat, SnapshotPart
from radixroute.radix.ids import Tier
from radixroute.radix.index.prefix_index import PrefixIndex
from tests.events.fakes import HOLDER, LOAD
from tests.events.session_bench import EPOCH, batch

S = 1_000_000_000


class Loop:
    """Runs what it was given, one call a turn."""

    def __init__(self):
        self.calls = []
        self.turns = []

    def run(self):
        while self.calls:
            self.turns.append([])
            self.calls.pop(0)()

    def take(self, items):
        self.turns[-1].extend(items)


@pytest.mark.parametrize(
    ("n_bytes", "most"),
    [(10, 7), (300, 3), (2000, 1)],  # by number, by bytes, and one that is more than a turn's
)
def test_a_turn_of_the_loop_gets_so_many_items_and_bytes(n_bytes, most):
    loop = Loop()
    settings = SubscriberSettings(turn_items=7, turn_bytes=1000)
    inbox = Inbox(loop.take, loop.calls.append, settings)
    items = [Delivery(HOLDER, Malformed(str(number))) for number in range(20)]
    for item in items:
        inbox.put(item, n_bytes)
    inbox.flush()
    inbox.flush()
    assert len(loop.calls) == 1
    loop.run()
    assert max(map(len, loop.turns)) == most
    assert [item for turn in loop.turns for item in turn] == items
    assert inbox._n_bytes == 0


def test_what_a_failing_consumer_left_is_still_handed_over():
    calls, seen = list[Any](), list[object]()

    def take(items):
        seen.extend(items)
        if len(seen) == 2:
            raise LookupError

    inbox = Inbox(take, calls.append, SubscriberSettings(turn_items=2))
    for number in range(4):
        inbox.put(Delivery(HOLDER, Malformed(str(number))), 1)
    inbox.flush()
    with pytest.raises(LookupError):
        calls.pop(0)()
    calls.pop(0)()
    assert len(seen) == 4


class CountingIndex(PrefixIndex):
    """Counts the blocks and calls of a turn."""

    n_blocks_now = n_calls_now = 0

    def store(self, holder, parent, keys, tier):
        self.n_blocks_now += len(keys)
        self.n_calls_now += 1
        super().store(holder, parent, keys, tier)

    def turn(self):
        seen = self.n_blocks_now, self.n_calls_now
        self.n_blocks_now = self.n_calls_now = 0
        return seen


def snapshot(n_runs: int, run_len: int) -> SnapshotPart:
    keys = np.arange(1, n_runs * run_len + 1, dtype=np.uint64).reshape(n_runs, run_len)
    runs = tuple(BlocksStored(None, run, Tier.DEVICE) for run in keys)
    return SnapshotPart(EPOCH, 0, 4, 0, 1, runs)


def test_a_snapshot_is_applied_in_turns_and_what_comes_meanwhile_waits():
    index, whole = CountingIndex(), PrefixIndex()
    source = NativeSource(HOLDER, EPOCH, index, turn_cost=2000)
    at_once = NativeSource(HOLDER, EPOCH, whole)
    live = [decode_frames(encode_batch(batch(seq))) for seq in range(5, 9)]
    for one in (source, at_once):
        one.begin(0)
    for item in (snapshot(100, 50), *live):
        at_once.deliver(item, 0)
    source.deliver(snapshot(100, 50), 0)
    turns = [index.turn()]
    beat = Heartbeat(EPOCH, 0, 8, whole.account(HOLDER), LOAD)
    for item in (*live, beat):
        wanted = source.deliver(item, 0)
        assert source.state is not StreamState.LIVE
    assert wanted == [LoadReported(LOAD)]  # who lives is known at once
    while source.is_busy:
        assert source.tick(60 * S) == []  # its heartbeats wait here: that is no silence
        source.go_on(0)
        turns.append(index.turn())
    assert source.state is StreamState.LIVE
    assert source.tick(S // 10) == []
    assert index.account(HOLDER) == whole.account(HOLDER)
    assert max(blocks + 200 * calls for blocks, calls in turns) <= 2000 + 250
    assert len(turns) > 10
    source.check()
    index.check()


def test_a_source_that_ends_in_the_middle_leaves_nothing():
    index = PrefixIndex()
    source = NativeSource(HOLDER, EPOCH, index, turn_cost=500)
    source.begin(0)
    source.deliver(snapshot(20, 50), 0)
    assert [source.is_busy] == [True]
    source.end()
    assert [source.is_busy] == [False]
    index.check()
    assert HOLDER not in index.holders
