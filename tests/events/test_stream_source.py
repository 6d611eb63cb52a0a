"""The contract of `StreamSource`, over each implementation: events in, index changed, wants out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from radixroute.events.engines.engine_stream import AskReplay
from radixroute.events.engines.foreign import ForeignReplayEnd
from radixroute.events.engines.vllm import decode_live
from radixroute.events.session.actions import RequestResend, RequestSnapshot, StateChanged
from radixroute.events.session.states import StreamState
from radixroute.events.subscribe.engine_source import EngineReply, EngineSource
from radixroute.events.subscribe.native_source import NativeSource
from radixroute.events.subscribe.stream_source import LoadReported, SourceAction, StreamSource
from radixroute.events.wire.control import Malformed, ResendDone
from radixroute.events.wire.native import decode_frames, encode_batch
from radixroute.events.wire.records import EventBatch
from radixroute.radix.errors import HolderExists
from radixroute.radix.ids import BlockKey, Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from tests.events.engines import SCOPE
from tests.events.fakes import HOLDER, LOAD
from tests.events.session_bench import EPOCH, OTHER, batch, beat, honest_beat, part
from tests.events.test_engine_stream import frames_of

REQUESTS = RequestResend | RequestSnapshot | AskReplay


class Native:
    """A rank of ours. Batch `seq` stores one block."""

    holders: Sequence[Holder] = (HOLDER,)

    def source(self, index, listener=None) -> StreamSource[Any]:
        return NativeSource(HOLDER, EPOCH, index, listener)

    def batch(self, seq: int, rank: int = 0):
        return decode_frames(encode_batch(batch(seq, rank=rank)))

    def key(self, seq: int) -> int:
        return 100 + seq

    def answers(self, request, published: int) -> list[Any]:
        """To a request made when that many batches had been published."""
        if isinstance(request, RequestSnapshot):
            assert published == 0
            return [part(None)]
        again = [self.batch(seq) for seq in range(request.from_seq, request.to_seq + 1)]
        return [*again, ResendDone(EPOCH, request.from_seq)]


class Engine:
    """Another engine's two ranks behind one endpoint."""

    holders: Sequence[Holder] = tuple(Holder(WorkerId("vllm"), rank) for rank in range(2))

    def source(self, index, listener=None) -> StreamSource[Any]:
        return EngineSource(self.holders, SCOPE, index, listener)

    def batch(self, seq: int, rank: int = 0):
        return decode_live(frames_of(seq, seq + 1, rank=rank))

    def key(self, seq: int) -> int:
        tokens = np.array([2 * (seq + 1), 2 * (seq + 1) + 1], np.uint32)
        return int(block_keys(tokens, SCOPE.block_size, SCOPE.seed)[0])

    def answers(self, request, published: int) -> list[Any]:
        kept = [self.batch(seq) for seq in range(request.from_seq, published)]
        return [EngineReply(request.number, item) for item in (*kept, ForeignReplayEnd())]


class Listener:
    """Who waits for blocks; checks that the index has them by then."""

    def __init__(self, index: PrefixIndex, holder: Holder, *, expects: bool) -> None:
        self._index = index
        self._holder = holder
        self._expects = expects
        self.heard: list[int] = []

    def expects_blocks(self, worker_id) -> bool:
        assert worker_id == self._holder.worker
        return self._expects

    def stored(self, worker_id, keys) -> None:
        assert worker_id == self._holder.worker
        for key in keys.tolist():
            assert self._index.holds(self._holder, BlockKey(key))
            self.heard.append(key)


class Bench:
    """A source on a real index, the wants it has told, and a state rebuilt from them alone."""

    def __init__(self, case, *, expects: bool = False) -> None:
        self.case = case
        self.index = PrefixIndex()
        self.listener = Listener(self.index, case.holders[0], expects=expects)
        self.source: StreamSource[Any] = case.source(self.index, self.listener)
        self.told_state = StreamState.SYNCING
        self.wanted: list[SourceAction] = []
        self.now_ns = 0
        self._take(self.source.begin(0))

    def deliver(self, *items: Any) -> None:
        for item in items:
            self._take(self.source.deliver(item, self.now_ns))

    def publish(self, *seqs: int) -> None:
        self.deliver(*(self.case.batch(seq) for seq in seqs))

    def answer(self, published: int) -> None:
        """Everything that was asked for."""
        for request in self.requests():
            self.deliver(*self.case.answers(request, published))

    def requests(self) -> Sequence[SourceAction]:
        """Those not looked at yet."""
        found = [one for one in self.wanted if isinstance(one, REQUESTS)]
        self.wanted.clear()
        return found

    def held(self) -> set[int]:
        return {
            key
            for holder in self.case.holders
            for run in self.index.dump(holder)
            for key in run.keys.tolist()
        }

    def _take(self, wanted: list[SourceAction]) -> None:
        for one in wanted:
            if isinstance(one, StateChanged):
                assert one.old is self.told_state
                self.told_state = one.new
        assert self.source.state is self.told_state
        self.source.check()
        self.index.check()
        self.wanted += wanted


def keys_of(case, *seqs: int) -> set[int]:
    return {case.key(seq) for seq in seqs}


@pytest.fixture(params=[Native, Engine], ids=["native", "engine"])
def case(request):
    return request.param()


@pytest.fixture
def bench(case):
    return Bench(case)


@pytest.fixture
def live(bench):
    bench.answer(published=0)
    bench.publish(0)
    assert bench.source.state is StreamState.LIVE
    return bench


def test_it_begins_with_nothing_and_asks_once_for_what_was(bench):
    assert tuple(bench.source.holders) == tuple(bench.case.holders) == bench.index.holders
    assert (bench.source.state, bench.source.applied_seq) == (StreamState.SYNCING, None)
    assert bench.held() == set()
    assert len(bench.requests()) == 1


def test_holders_that_are_there_already_are_not_taken_over(bench):
    with pytest.raises(HolderExists):
        bench.case.source(bench.index).begin(0)


def test_batches_in_order_change_the_index_and_want_nothing(live):
    live.wanted.clear()
    live.publish(1, 2)
    assert live.held() == keys_of(live.case, 0, 1, 2)
    assert live.source.applied_seq == 2
    assert live.wanted == []
    assert (live.source.gaps, live.source.rejected, live.source.unknown_ranks) == (0, 0, 0)


def test_a_missing_batch_is_a_gap_and_what_is_sent_again_mends_it(live):
    live.wanted.clear()
    live.publish(2)
    assert (live.source.state, live.source.gaps) == (StreamState.GAP, 1)
    assert live.held() == keys_of(live.case, 0)  # nothing out of order
    live.answer(published=3)
    assert (live.source.state, live.source.gaps) == (StreamState.LIVE, 1)
    assert live.held() == keys_of(live.case, 0, 1, 2)
    assert live.source.applied_seq == 2
    assert live.requests() == []


def test_a_batch_that_comes_twice_counts_once(live):
    live.publish(1)
    live.deliver(*live.case.answers(again(live.case), published=2))
    assert live.held() == keys_of(live.case, 0, 1)
    first = live.case.holders[0]
    assert live.index.account(first).n_copies == 2


def again(case) -> Any:
    return RequestResend(0, 1) if isinstance(case, Native) else AskReplay(1, 0)


def test_bytes_of_no_protocol_are_counted(live):
    live.deliver(Malformed("x"))
    assert live.source.rejected == 1


def test_a_rank_of_nobody_changes_nothing_and_is_counted_apart(live):
    live.deliver(live.case.batch(1, rank=7))
    assert live.held() == keys_of(live.case, 0)
    assert (live.source.unknown_ranks, live.source.rejected) == (1, 0)


def test_whoever_expects_blocks_hears_of_them_once_they_are_there(case):
    bench = Bench(case, expects=True)
    bench.answer(published=0)
    bench.publish(0, 1)
    assert bench.listener.heard == [case.key(0), case.key(1)]


def test_whoever_expects_none_is_told_nothing(live):
    live.publish(1)
    assert live.listener.heard == []


def test_when_it_ends_its_holders_are_gone_and_a_next_life_begins_anew(live):
    live.source.end()
    assert live.index.holders == ()
    next_life = live.case.source(live.index)
    next_life.begin(0)
    assert tuple(live.index.holders) == tuple(live.case.holders)
    assert live.held() == set()


def test_a_tick_asks_again_when_nobody_answers(bench):
    bench.requests()
    bench.now_ns = 900_000_000
    if isinstance(bench.case, Native):
        bench.deliver(beat(5))  # alive, and nothing is known of it
    bench.now_ns = 2_100_000_000
    bench.deliver(*([beat(5)] if isinstance(bench.case, Native) else [bench.case.batch(2)]))
    bench._take(bench.source.tick(bench.now_ns))
    assert len(bench.requests()) == 1


# -- what only ours say ---------------------------------------------------------------------------


def test_a_load_is_reported_by_its_own_epoch_and_rank():
    bench = Bench(Native())
    bench.publish(0)
    bench.wanted.clear()
    bench.deliver(honest_beat(0))
    assert bench.wanted == [LoadReported(LOAD)]
    bench.deliver(beat(None, rank=1), beat(None, epoch=OTHER))
    assert bench.wanted == [LoadReported(LOAD)]


def test_events_that_are_not_packed_do_the_same():
    bench = Bench(Native(), expects=True)
    plain = batch(0)
    assert isinstance(plain, EventBatch)
    assert isinstance(plain.events, tuple)
    bench.deliver(plain)
    assert bench.held() == {100}
    assert bench.listener.heard == [100]


# -- what only others' lack -----------------------------------------------------------------------


def test_without_a_replay_a_gap_costs_what_was_known_and_it_goes_on():
    bench = Bench(Engine())
    bench.answer(published=0)
    bench.publish(0, 2)
    (request,) = bench.requests()
    assert isinstance(request, AskReplay)
    bench.deliver(EngineReply(request.number, ForeignReplayEnd()))
    assert isinstance(bench.source, EngineSource)
    assert (bench.source.known_from, bench.source.applied_seq) == (2, 2)
    assert bench.held() == keys_of(bench.case, 2)
