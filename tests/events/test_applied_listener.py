"""How far the index has followed a stream, as it is told to who judges by it: never wrong."""

import random
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.session.actions import RequestResend, RequestSnapshot
from radixroute.events.session.states import StreamState
from radixroute.events.subscribe.native_source import NativeSource
from radixroute.events.wire.control import Malformed, ResendRequest, decode_reply
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import decode_frames, encode_heartbeat
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    Event,
    EventBatch,
    LoadReport,
)
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex

HOLDER = Holder(WorkerId("w"))
EPOCH = make_epoch(1, bytes(8))
LOAD = LoadReport(0.0, 1, 0)
MS = 1_000_000


class Listener:
    """Looks at the index whenever it is told where that stands, and whenever asked."""

    def __init__(self, index, truths) -> None:
        self.index, self.truths = index, truths
        self.next_seq: int | None = None
        self.told: Counter[str] = Counter()

    def rebuilding(self, holder) -> None:
        assert self.next_seq is not None, "told twice"
        self.next_seq = None
        self.told["rebuilding"] += 1

    def based(self, holder, next_seq) -> None:
        assert self.next_seq is None
        self.next_seq = next_seq
        self.told["based"] += 1
        self.look()

    def applied(self, holder, seq, events) -> None:
        assert self.next_seq is not None
        assert seq >= self.next_seq
        self.next_seq = seq + 1
        self.told["applied"] += 1
        self.look()

    def left(self, holder) -> None:
        self.next_seq = None

    def look(self) -> None:
        if self.next_seq is not None:
            held = {int(key) for run in self.index.dump(HOLDER) for key in run.keys}
            assert held == self.truths[self.next_seq], f"before batch {self.next_seq}"


class World:
    """A publisher whose batches arrive as they like, and a source that applies in small turns."""

    def __init__(self, seed) -> None:
        self.rng = random.Random(seed)
        self.now_ns = 0
        self.held: set[int] = set()
        self.truths: list[set[int]] = [set()]
        self.index = PrefixIndex(1 << 20)
        self.listener = Listener(self.index, self.truths)
        self.stream = OutboundStream(EPOCH, 0, ring_batches=4, ring_bytes=1 << 20, part_blocks=5)
        self.source = NativeSource(HOLDER, EPOCH, self.index, turn_cost=self.rng.choice((0, 500)))
        self.source.tell(self.listener)
        self.waiting: list[Any] = []
        self.ask(self.source.begin(0))

    def ask(self, wanted) -> None:
        for action in wanted:
            frames: Any = ()
            if isinstance(action, RequestSnapshot):
                frames = self.stream.snapshot()
            elif isinstance(action, RequestResend):
                frames = self.stream.resend(ResendRequest(action.from_seq, action.to_seq))
            self.waiting += [decode_reply(one) for one in frames]

    def batch(self):
        events: list[Event] = []
        for _ in range(self.rng.randrange(1, 5)):
            if self.held and self.rng.random() < 0.4:
                keys = self.rng.sample(sorted(self.held), 1)
                self.held -= set(keys)
                events.append(BlocksRemoved(np.array(keys, np.uint64)))
            else:
                keys = [k for k in self.rng.sample(range(1, 60), 3) if k not in self.held]
                self.held |= set(keys)
                events.append(BlocksStored(None, np.array(keys, np.uint64)))
        self.truths.append(set(self.held))
        frames = self.stream.record(tuple(events), 0.0)
        item: Any = decode_frames(frames or ())
        if self.rng.random() < 0.5:  # as the typed decoder gives it: applied in turns
            item = EventBatch(EPOCH, 0, item.seq, tuple(item.events))
        return item

    def step(self) -> None:
        rng, source = self.rng, self.source
        chance = rng.random()
        give = partial(source.deliver, now_ns=self.now_ns)
        if chance < 0.5:
            item = self.batch()
            if rng.random() < 0.85:
                self.ask(give(item))
        elif chance < 0.65:
            self.ask(give(decode_frames(encode_heartbeat(self.stream.heartbeat(LOAD)))))
        elif chance < 0.7:
            self.ask(give(Malformed("x")) if rng.random() < 0.5 else source.distrust(self.now_ns))
        elif chance < 0.75:
            self.now_ns += 1500 * MS  # it falls silent
            self.ask(source.tick(self.now_ns))
        elif self.waiting:
            self.ask(give(self.waiting.pop(0)))
        self.now_ns += 40 * MS
        self.ask(source.tick(self.now_ns))
        self.listener.look()
        if rng.random() < 0.7:
            self.ask(source.go_on(self.now_ns))
            self.listener.look()


@pytest.mark.parametrize("first", [0, 20])
def test_the_index_stands_where_the_listener_was_told(first):
    told: Counter[str] = Counter()
    for seed in range(first, first + 20):
        world = World(seed)
        for _ in range(150):
            world.step()
            if not world.source.state.is_credited:
                assert world.listener.next_seq is None, f"seed {seed}: what is not believed"
            elif not world.source.is_busy and world.source.state is StreamState.LIVE:
                last = world.source.applied_seq
                wanted = 0 if last is None else last + 1
                assert world.listener.next_seq == wanted, f"seed {seed}"
        told += world.listener.told
    assert min(told["applied"], told["based"], told["rebuilding"]) > 50, told


def test_who_leaves_is_told():
    world = World(0)
    world.ask(world.source.deliver(world.batch(), now_ns=1))
    assert world.listener.next_seq == 1
    world.source.end()
    assert world.listener.next_seq is None
