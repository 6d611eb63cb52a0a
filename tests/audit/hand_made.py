"""One worker whose batches and reports are made by hand, in front of a real router."""

import random
from dataclasses import replace

import numpy as np

from radixroute.events.wire.control import Delivery, Endpoints
from radixroute.events.wire.epoch import epoch_to_hex, make_epoch
from radixroute.events.wire.records import (
    BlocksStored,
    EventBatch,
    Heartbeat,
    LoadReport,
    SnapshotPart,
)
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.core.router_core import RouterCore
from radixroute.router.links.event_link import EventLink
from radixroute.router.messages.inputs import MemberSpec, WorkerFacts
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.claims import Claim
from tests.router.test_event_link import FakeTransport

W = WorkerId("w")
EPOCHS = [make_epoch(n, bytes(8)) for n in (1, 2)]
ENDPOINTS = Endpoints("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
S = 1_000_000_000


def keys(*numbers):
    return np.array(numbers, np.uint64)


PROMPT = keys(1, 2, 3, 4, 5, 6, 7, 8)


def stored(*numbers):
    return BlocksStored(None, keys(*numbers))


class Bench:
    """One worker, whose batches and reports are made by hand; its truth is nobody's business."""

    def __init__(self, ranks=1, index_bytes=1 << 22) -> None:
        self.ranks = ranks
        self.is_cache_believed = False
        self.index = PrefixIndex(index_bytes)
        self.core = RouterCore(RouterSettings(), self.index, random.Random(0))
        self.transport = FakeTransport()
        self.link = EventLink(self.core, self.index, self.transport)
        self.core.set_members([MemberSpec(W, "w:1", 1)], 0)
        self.seqs = [0] * ranks
        self.now_ns = 0
        self.live(0)

    def live(self, which) -> None:
        """A life begins and its streams are up to date; the epoch may be the same."""
        self.epoch = EPOCHS[which]
        self.link.join([Holder(W, r) for r in range(self.ranks)], self.epoch, ENDPOINTS, now_ns=0)
        facts = WorkerFacts(W, epoch_to_hex(self.epoch), 16, frozenset(), 100, 512)
        facts = replace(facts, is_cache_believed=self.is_cache_believed)
        self.core.joined(facts, self.now_ns)
        self.seqs = [0] * self.ranks
        for rank in range(self.ranks):
            self.batch(stored(99), rank=rank)
        self.core.audit.mark(W, PROMPT)  # something was sent there
        self.pass_time(100.0)

    def batch(self, *events, rank=0, seq=None) -> None:
        if seq is None:
            seq, self.seqs[rank] = self.seqs[rank], self.seqs[rank] + 1
        item = EventBatch(self.epoch, rank, seq, events)
        self.link.receive([Delivery(Holder(W, rank), item)], self.now_ns)

    def snapshot(self, *numbers) -> None:
        runs = (stored(*numbers),) if numbers else ()
        part = SnapshotPart(self.epoch, 0, self.seqs[0] - 1, 0, 1, runs)
        self.link.receive([Delivery(Holder(W), part)], self.now_ns)

    def tell(self, told, position=None, mark=None, rank=None) -> None:
        """A report on the prompt; by default of now, where all events are known."""
        mark = self.core.audit.mark(W, PROMPT) if mark is None else mark
        self.core.audit.reported(Claim(W, PROMPT, told, position, mark, self.now_ns, rank))
        self.link.tick(self.now_ns)  # it takes what turned

    def tell_now(self, told) -> None:
        self.tell(told, (self.seqs[0], 0))

    def pass_time(self, seconds) -> None:
        self.now_ns += round(seconds * S)
        for rank, seq in enumerate(self.seqs):
            holder = Holder(W, rank)
            load = LoadReport(0.0, 100, 0)
            beat = Heartbeat(self.epoch, rank, seq - 1, self.index.account(holder), load)
            self.link.receive([Delivery(holder, beat)], self.now_ns)
        self.core.audit.tick(lambda _: 1, self.now_ns)
        self.link.tick(self.now_ns)
        self.core.check()

    @property
    def record(self):
        return self.core.audit.of(W)

    @property
    def asked(self):
        return self.transport.asked["snapshot", Holder(W)] - 1  # one when it joined

    @property
    def sums(self):
        self.core.check()
        return self.record.judged, self.record.differing, self.record.unjudged

    @property
    def is_believed(self):
        return self.core.snapshot().workers[0].is_fresh
