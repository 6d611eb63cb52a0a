"""Event streams into the index when the ranks of a worker share one address."""

import random
from collections import Counter

import numpy as np
import pytest

from radixroute.events.wire.control import Delivery, Endpoints, Malformed
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import decode_frames, encode_batch, encode_heartbeat
from radixroute.events.wire.records import (
    BlocksStored,
    EventBatch,
    Heartbeat,
    LoadReport,
    SnapshotPart,
)
from radixroute.radix.digest import Account, mix
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.core.router_core import RouterCore
from radixroute.router.counters import Count
from radixroute.router.links.event_link import TURN_COST, EventLink
from radixroute.router.settings import RouterSettings
from tests.events.fakes import stored

WORKER = WorkerId("w0")
RANKS = [Holder(WORKER, 0), Holder(WORKER, 1)]
EPOCH = make_epoch(1, bytes(8))
ENDPOINTS = Endpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")


class FakeTransport:
    """Holders by where they subscribe, and what was asked."""

    def __init__(self) -> None:
        self.endpoints: dict[Holder, Endpoints] = {}
        self.asked: Counter[tuple[str, Holder]] = Counter()

    def add(self, holder, endpoints) -> None:
        self.endpoints[holder] = endpoints

    def remove(self, holder) -> None:
        del self.endpoints[holder]

    def request_resend(self, holder, from_seq, to_seq) -> None:
        self.asked["resend", holder] += 1

    def request_snapshot(self, holder) -> None:
        self.asked["snapshot", holder] += 1


class Bench:
    """An event link with both ranks joined; whatever is sent reaches both subscriptions."""

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self.core = RouterCore(RouterSettings(), self.index, random.Random(0))
        self.transport = FakeTransport()
        self.link = EventLink(self.core, self.index, self.transport)
        self.link.join(RANKS, EPOCH, ENDPOINTS, now_ns=0)

    def send(self, frames) -> None:
        item = decode_frames(frames)
        self.link.receive([Delivery(holder, item) for holder in RANKS], now_ns=1)

    def store(self, rank: int, seq: int, key: int) -> None:
        self.send(encode_batch(EventBatch(EPOCH, rank, seq, (stored(None, key),))))

    def beat(self, rank: int, last_seq: int | None, *keys: int) -> None:
        digest = sum(mix(key, Tier.DEVICE) for key in keys) % 2**64
        load = LoadReport(step_age_ms=0.0, kv_blocks_total=1, kv_blocks_used=0)
        account = Account(len(keys), digest)
        self.send(encode_heartbeat(Heartbeat(EPOCH, rank, last_seq, account, load)))

    def held(self, key: int) -> list[int]:
        return [holder.rank for holder in RANKS if self.index.holds(holder, BlockKey(key))]


@pytest.fixture
def bench():
    return Bench()


def test_each_rank_has_its_own_seq_and_its_own_blocks(bench):
    for rank, key in ((0, 10), (1, 11), (1, 12), (0, 13)):
        bench.store(rank, seq=(key - 10) // 2, key=key)
    assert [bench.held(key) for key in (10, 11, 12, 13)] == [[0], [1], [1], [0]]
    for rank, keys in ((0, (10, 13)), (1, (11, 12))):
        bench.beat(rank, 1, *keys)
    status = bench.link.status(WORKER)
    assert status is not None
    assert (status.state, status.applied_seq, status.indexed_blocks) == ("live", 2, 4)
    assert bench.link.gaps() == 0
    assert bench.transport.asked == {("snapshot", holder): 1 for holder in RANKS}  # at the join


def test_a_lost_batch_of_one_rank_is_no_gap_of_the_other(bench):
    bench.store(0, seq=0, key=10)
    bench.store(1, seq=0, key=11)
    bench.store(1, seq=2, key=12)
    assert bench.link.gaps() == 1
    assert bench.transport.asked["resend", RANKS[1]] == 1
    assert bench.transport.asked["resend", RANKS[0]] == 0


def test_a_heartbeat_reports_its_load_once_however_many_ranks_hear_it(bench):
    bench.beat(1, None)
    # The core has no such member here, and counts what it is told about strangers.
    assert bench.core._state.counters[Count.REPORTS_UNKNOWN] == 1


def test_bytes_of_no_protocol_cost_every_rank_that_may_have_lost_something(bench):
    bench.store(0, seq=0, key=10)
    bench.store(1, seq=0, key=11)
    bench.link.receive([Delivery(holder, Malformed("x")) for holder in RANKS], now_ns=10**9)
    status = bench.link.status(WORKER)
    assert status is not None
    assert status.state == "resync"
    assert bench.transport.asked == {("snapshot", holder): 2 for holder in RANKS}


def test_a_large_snapshot_is_applied_in_turns_of_the_link():
    bench = Bench()
    keys = np.arange(1, 4 * TURN_COST + 1, dtype=np.uint64).reshape(-1, 64)
    runs = tuple(BlocksStored(None, run, Tier.DEVICE) for run in keys)
    bench.link.receive([Delivery(RANKS[0], SnapshotPart(EPOCH, 0, 4, 0, 1, runs))], now_ns=1)
    turns = 1
    assert 0 < bench.index.n_blocks(RANKS[0]) <= TURN_COST
    status = bench.link.status(WORKER)
    assert status is not None
    assert status.state != "live"
    while bench.link.is_busy:
        before = bench.index.n_blocks(RANKS[0])
        bench.link.go_on(1)
        assert bench.index.n_blocks(RANKS[0]) - before <= TURN_COST
        turns += 1
    assert turns > 4
    assert bench.index.n_blocks(RANKS[0]) == keys.size


def test_a_worker_that_leaves_in_the_middle_of_a_snapshot_is_gone():
    bench = Bench()
    keys = np.arange(1, 4 * TURN_COST + 1, dtype=np.uint64).reshape(-1, 64)
    runs = tuple(BlocksStored(None, run, Tier.DEVICE) for run in keys)
    bench.link.receive([Delivery(RANKS[0], SnapshotPart(EPOCH, 0, 4, 0, 1, runs))], now_ns=1)
    assert [bench.link.is_busy] == [True]
    bench.link.leave(WORKER)
    assert [bench.link.is_busy] == [False]
    assert bench.link.go_on(1) == []
    assert bench.link.status(WORKER) is None
