"""A foreign engine's endpoint: ranks that share one seq, both replay layouts, gaps and restarts."""

import random
import threading

import msgpack
import pytest
import zmq

from radixroute.events.engines.engine_stream import AskReplay, EngineStream
from radixroute.events.engines.foreign import ForeignReplayEnd
from radixroute.events.engines.vllm import decode_live
from radixroute.events.errors import LocalEventError
from radixroute.events.session.states import StreamState
from radixroute.events.settings import EngineSettings
from radixroute.events.subscribe.engine_source import EngineReply, EngineSource
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.scope import Scope
from tests.events.engines import LAYOUTS, SCOPE, EngineEnd, FakeEngine
from tests.parts import parts

MS = 1_000_000
ALL = 10**9
PARTS = parts(300, quick=30)
layouts = pytest.mark.parametrize("before_seq", LAYOUTS.values(), ids=LAYOUTS)


def frames_of(seq: int, *names: int, rank: int | None = 0, parent: int | None = None):
    tokens = [name * 2 + i for name in names for i in range(2)]
    event = ["BlockStored", list(names), parent, tokens, 2, None, "GPU"]
    return [b"", seq.to_bytes(8, "big"), msgpack.packb([1.0, [event], rank])]


class EngineWorld:
    """Two ranks behind one address, and a link that loses live batches; with a ring replies too."""

    def __init__(self, seed: int, *, ring: int = ALL) -> None:
        self.rng = random.Random(seed)
        self.before_seq = self.rng.choice(list(LAYOUTS.values()))
        self._ring = ring
        self.loss = self.rng.choice((0.0, 0.05, 0.3))
        self.now_ns = 0
        self.end = EngineEnd(2)
        self._replies: list[tuple[int, list[bytes]]] = []
        self._engine = self._begin()

    def _begin(self) -> FakeEngine:
        return FakeEngine(self.rng, 2, self._ring, self.before_seq)

    def run(self, steps: int, *, is_busy: bool) -> None:
        for step in range(steps):
            self.now_ns += 10 * MS
            if is_busy and self.rng.random() < 0.5:
                frames = self._engine.step()
                if self.rng.random() >= self.loss:
                    self.end.live(frames, self.now_ns)
            if is_busy and self.rng.random() < 0.005:
                self._engine = self._begin()
                self._replies.clear()
                self.end.carry_out(self.end.stream.ended())
            self._replay()
            if step % 50 == 0:  # it looks at the whole table of names
                self.end.stream.check()

    def _replay(self) -> None:
        end = self.end
        for _ in range(self.rng.randrange(4)):
            if self._replies:
                number, frames = self._replies.pop(0)
                end.replayed(number, frames, self.now_ns)
        end.carry_out(end.stream.tick(self.now_ns))
        if end.asked:  # a new socket: what the old one would still have got is gone
            number, request = end.request()
            replies = self._engine.replay(request)
            is_cut = self._ring < ALL and self.rng.random() < self.loss
            cut = self.rng.randrange(len(replies)) if is_cut else len(replies)
            self._replies = [(number, frames) for frames in replies[:cut]]

    def quieten(self) -> None:
        self.loss = 0.0
        self.run(1200, is_busy=False)

    def truths(self):
        return [rank.truth() for rank in self._engine.ranks]

    def held(self):
        return [self.end.held(rank) for rank in range(2)]


@pytest.mark.parametrize("seeds", PARTS)
def test_after_quiet_each_rank_on_the_socket_has_its_own_truth(seeds):
    gaps = restarts = 0
    for seed in seeds:
        world = EngineWorld(seed)
        world.run(200, is_busy=True)
        world.quieten()
        assert world.held() == world.truths(), f"seed {seed}"
        world.end.index.check()
        counters = world.end.stream.counters
        gaps, restarts = gaps + counters.gaps, restarts + counters.restarts
        assert counters.forgotten == 0
    assert min(gaps, restarts) > len(seeds) / 2


@pytest.mark.parametrize("seeds", PARTS)
def test_what_the_engine_no_longer_keeps_costs_credit_and_never_gives_any(seeds):
    forgotten = timeouts = 0
    for seed in seeds:
        world = EngineWorld(seed, ring=3)
        world.run(200, is_busy=True)
        world.quieten()
        for held, truth in zip(world.held(), world.truths(), strict=True):
            assert not held - truth, f"seed {seed}"
        forgotten += world.end.stream.counters.forgotten
        timeouts += world.end.stream.counters.timeouts
    assert forgotten > len(seeds) / 2
    assert timeouts > len(seeds) / 20


@layouts
def test_a_gap_of_one_rank_is_mended_by_a_replay_of_all(before_seq):
    end, engine = EngineEnd(2), FakeEngine(random.Random(3), 2, ALL, before_seq)
    lost = {2, 3, 7}
    for seq in range(9):
        frames = engine.step()
        if seq not in lost:
            end.live(frames, 0)
        if end.asked:
            number, request = end.request()
            for reply in engine.replay(request):
                end.replayed(number, reply, 0)
    assert [end.held(rank) for rank in range(2)] == [rank.truth() for rank in engine.ranks]
    assert end.stream.next_seq == 9
    assert (end.stream.counters.gaps, end.stream.counters.forgotten) == (2, 0)


@layouts
def test_a_replay_over_real_sockets(before_seq):
    """A ROUTER that answers as vLLM's does: three frames or silence, one message a batch."""
    engine = FakeEngine(random.Random(4), 2, ALL, before_seq)
    batches = [engine.step() for _ in range(20)]
    end = EngineEnd(2)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve() -> None:
            peer, *request = router.recv_multipart()
            for reply in engine.replay(request):
                router.send_multipart([peer, *reply])

        server = threading.Thread(target=serve)
        server.start()
        end.live(batches[-1], 0)
        number, request = end.request()
        with context.socket(zmq.DEALER) as dealer:
            dealer.linger, dealer.rcvtimeo = 0, 10_000
            dealer.connect(f"tcp://127.0.0.1:{port}")
            dealer.send_multipart(request)
            for _ in range(len(batches) + 1):
                end.replayed(number, dealer.recv_multipart(), 0)
        server.join()
    assert [end.held(rank) for rank in range(2)] == [rank.truth() for rank in engine.ranks]
    end.stream.check()
    assert end.stream.next_seq == 20


def test_a_replay_that_overruns_the_live_stream_is_not_applied_twice():
    end = EngineEnd(1)
    end.carry_out(end.stream.tick(0))
    number, _ = end.request()
    end.live(frames_of(1, 2), 0)
    for seq in range(4):
        end.replayed(number, frames_of(seq, seq + 1), 0)
    for seq in (2, 3):
        end.live(frames_of(seq, seq + 1), 0)
    end.replayed(number, [b"", b"\xff" * 8, b""], 0)
    assert sorted(end.held(0).values()) == [1, 1, 1, 1]
    assert end.stream.counters.restarts == 0


def test_a_batch_lost_while_a_replay_runs_is_asked_for_again():
    end = EngineEnd(1)
    end.live(frames_of(1, 2), 0)
    number, _ = end.request()
    end.live(frames_of(3, 4), 0)  # 2 was sent after the replay was made, and lost
    for reply in (frames_of(0, 1), frames_of(1, 2), [b"", b"\xff" * 8, b""]):
        end.replayed(number, reply, 0)
    assert end.stream.counters.forgotten == 0
    number, request = end.request()
    assert request == [b"", (2).to_bytes(8, "big")]
    for reply in (frames_of(2, 3), [b"", b"\xff" * 8, b""]):
        end.replayed(number, reply, 0)
    assert sum(end.held(0).values()) == 4


def test_a_seq_that_goes_back_is_another_life():
    end = EngineEnd(2)
    for seq in range(3):
        end.live(frames_of(seq, 10 + seq, rank=seq % 2), 0)
    end.live(frames_of(0, 99, rank=1), 0)
    assert [sum(end.held(rank).values()) for rank in range(2)] == [0, 1]
    assert end.stream.counters.restarts == 1


def test_replies_of_an_old_life_are_not_believed():
    end = EngineEnd(1)
    end.carry_out(end.stream.tick(0))
    number, _ = end.request()
    end.carry_out(end.stream.ended())
    end.replayed(number, frames_of(0, 1), 0)
    end.carry_out(end.stream.tick(1))
    assert end.request()[0] != number
    end.replayed(number, frames_of(0, 1), 1)
    assert not end.held(0)
    assert end.stream.counters.late_replies == 2


def test_a_batch_without_a_rank_is_of_the_first_and_one_of_a_stranger_of_none():
    end = EngineEnd(2)
    end.live(frames_of(0, 1, rank=None), 0)
    end.live(frames_of(1, 2, rank=7), 0)
    end.live(frames_of(2, 3, rank=1), 0)
    assert [sum(end.held(rank).values()) for rank in range(2)] == [1, 1]
    assert end.stream.counters.unknown_ranks == 1
    assert end.stream.next_seq == 3


def test_a_lost_tail_is_asked_for():
    end, settings = EngineEnd(1), EngineSettings()
    end.carry_out(end.stream.tick(0))
    number, _ = end.request()
    end.replayed(number, [b"", b"\xff" * 8, b""], 0)
    end.carry_out(end.stream.tick(int(settings.probe_interval_s * 1e9) - 1))
    assert not end.asked
    end.carry_out(end.stream.tick(int(settings.probe_interval_s * 1e9)))
    assert end.request()[1] == [b"", bytes(8)]


def test_what_waits_behind_a_gap_is_bounded():
    end = EngineEnd(1)
    end.stream = stream = EngineStream(SCOPE, settings=EngineSettings(max_waiting_batches=3))
    for seq in (1, 2, 3, 5):
        end.live(frames_of(seq, seq), 0)
    assert (stream.next_seq, stream.counters.forgotten) == (4, 1)
    stream.check()
    assert sum(end.held(0).values()) == 3


def test_an_endpoint_has_a_rank():
    with pytest.raises(LocalEventError):
        EngineStream(SCOPE, ())


def test_frames_without_a_topic_are_no_live_message():
    assert decode_live(frames_of(4, 1)).seq == 4


class Source:
    """An `EngineSource` of one rank whose block size nobody states, and its index."""

    def __init__(self, block_size: int = 0) -> None:
        self.index = PrefixIndex()
        self.holder = Holder(WorkerId("engine"), 0)
        scope = Scope(model_fingerprint="m", block_size=block_size)
        self.source = EngineSource([self.holder], scope, self.index)
        self.asked = self.source.begin(0)

    def live(self, seq: int, **event: object) -> None:
        stored = {"type": "BlockStored", "parent_block_hash": None, "medium": "GPU", **event}
        frames = [b"", seq.to_bytes(8, "big"), msgpack.packb([1.0, [stored], 0])]
        self.source.deliver(decode_live(frames), 0)

    @property
    def n_blocks(self) -> int:
        return self.index.n_blocks(self.holder)


PARTIAL = {"block_hashes": [1], "token_ids": [1, 2, 3], "block_size": 3}
OTHER = {
    "block_hashes": [5, 6], "token_ids": [*range(6)], "block_size": 3,
    "group_idx": 1, "kv_cache_spec_kind": "mamba",
}  # fmt: skip
WHOLE = {"block_hashes": [7, 8], "token_ids": [*range(8)], "block_size": 4}


@pytest.mark.parametrize("first", [PARTIAL, OTHER], ids=["partial", "another group"])
@pytest.mark.parametrize("stated", [0, 4])
def test_the_size_of_a_block_is_never_taken_from_what_is_no_whole_one(first, stated):
    """E9: whatever came after it was dropped."""
    engine = Source(stated)
    engine.live(0, **first)
    assert engine.n_blocks == 0
    assert sum(engine.source.drops.values()) == 1
    engine.live(1, **WHOLE)
    assert engine.n_blocks == 2


def test_each_life_tells_the_size_of_its_blocks_anew():
    engine = Source()
    engine.live(3, **WHOLE)
    engine.live(4, **WHOLE | {"block_hashes": [9, 10], "block_size": 8, "token_ids": [*range(16)]})
    assert engine.n_blocks == 0  # waits for what came before
    engine.live(0, **WHOLE)  # a seq that goes back: another life
    assert engine.n_blocks == 2
    engine.live(0, block_hashes=[1, 2], token_ids=[*range(16)], block_size=8)
    assert engine.n_blocks == 2
    assert engine.source.drops["other_block_sizes"] == 0


def test_a_page_of_one_token_is_a_block():
    engine = Source()
    engine.live(0, block_hashes=[1, 2], token_ids=[1, 2], block_size=1)
    assert engine.n_blocks == 2


def test_a_stream_is_live_only_after_somebody_was_heard():
    """E13: it said so where nobody listens, once its request had timed out."""
    engine = Source(4)
    for tick in range(100):
        engine.source.tick(tick * 1000 * MS)
        assert engine.source.state is StreamState.SYNCING
    engine.live(0, **WHOLE)
    assert engine.source.state is StreamState.LIVE


@pytest.mark.parametrize("is_end", [True, False])
def test_a_reply_proves_that_somebody_is_there_and_its_end_that_this_is_all(is_end):
    engine = Source(4)
    (asked,) = engine.asked
    assert isinstance(asked, AskReplay)
    if is_end:
        engine.source.deliver(EngineReply(asked.number, ForeignReplayEnd()), MS)
        assert engine.source.state is StreamState.LIVE
    else:
        engine.source.deliver(EngineReply(asked.number, None), MS)
        assert engine.source.state is StreamState.SYNCING


def test_a_stream_is_quiet_once_begun_until_it_asks_for_something():
    stream = EngineStream(SCOPE)
    was_quiet = [stream.is_quiet]
    (asked,) = stream.tick(0)
    was_quiet.append(stream.is_quiet)
    assert isinstance(asked, AskReplay)
    stream.receive_replayed(asked.number, ForeignReplayEnd(), MS)
    was_quiet.append(stream.is_quiet)
    stream.receive(decode_live(frames_of(3, 1)), 2 * MS)  # what was before it is missing
    was_quiet.append(stream.is_quiet)
    assert was_quiet == [False, False, True, False]


def test_a_life_that_ended_is_not_live_until_the_next_one_is_heard():
    engine = Source(4)
    engine.live(0, **WHOLE)
    engine.source.tick(10**12)
    states = [engine.source.state]
    engine.source._carry_out(engine.source._stream.ended())
    states.append(engine.source.state)
    assert states == [StreamState.LIVE, StreamState.SYNCING]
    assert engine.n_blocks == 0


@pytest.mark.parametrize("answers", [True, False])
def test_batches_that_are_lost_live_are_counted_whether_they_are_mended_or_not(answers):
    stream = EngineStream(SCOPE)
    batches = [decode_live(frames_of(seq, 2 * seq + 1)) for seq in range(9)]
    (asked,) = stream.receive(batches[3], 0)  # what was before we listened is not lost
    assert isinstance(asked, AskReplay)
    stream.receive_replayed(asked.number, batches[0], 0)
    for batch in batches[1:3]:
        stream.receive_replayed(asked.number, batch, 0)
    stream.receive_replayed(asked.number, ForeignReplayEnd(), 0)
    found = stream.counters
    assert (found.live_gaps, found.live_missed, found.unmended) == (0, 0, 0)
    asked = next(one for one in stream.receive(batches[6], 0) if isinstance(one, AskReplay))
    for batch in batches[4:6] if answers else ():
        stream.receive_replayed(asked.number, batch, 0)
    stream.receive_replayed(asked.number, ForeignReplayEnd(), 0)
    assert (found.live_gaps, found.live_missed, found.unmended) == (1, 2, 0 if answers else 1)
