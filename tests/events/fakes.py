"""A cache that emits events, a link that loses, repeats, delays and mangles, and a router's end.

Time is virtual (integer nanoseconds); everything follows from one `random.Random`.
"""

import heapq
import random
from collections import Counter
from dataclasses import dataclass

import msgpack
import numpy as np

from radixroute.events.errors import RemoteEventError
from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.session.actions import Apply, RequestResend, RequestSnapshot, Reset
from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.settings import SessionSettings
from radixroute.events.wire.control import (
    Malformed,
    ResendRequest,
    SnapshotRequest,
    decode_reply,
    decode_request,
    encode_request,
)
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import TOPIC_BATCH, decode_frames, encode_heartbeat
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Epoch,
    LoadReport,
)
from radixroute.radix.digest import Account, mix
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId

MS = 1_000_000
HOLDER = Holder(WorkerId("w0"), 0)
LOAD = LoadReport(step_age_ms=0.0, kv_blocks_total=100, kv_blocks_used=0)


def keys(*values: int):
    return np.array(values, dtype=np.uint64)


def stored(parent, *values: int, tier: Tier = Tier.DEVICE) -> BlocksStored:
    return BlocksStored(None if parent is None else BlockKey(parent), keys(*values), tier)


def removed(*values: int, tier: Tier = Tier.DEVICE) -> BlocksRemoved:
    return BlocksRemoved(keys(*values), tier)


class FakeCache:
    """Emits what an engine's cache might: growing chains, second copies, evictions, clears."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.truth: Counter[tuple[int, Tier]] = Counter()
        self._parents: dict[int, int | None] = {}

    def step(self):
        return tuple(self._event() for _ in range(self._rng.randint(1, 3)))

    def _event(self):
        choice = self._rng.random()
        if choice < 0.02:
            self.truth.clear()
            self._parents.clear()
            return CacheCleared()
        if choice < 0.3 and self.truth:
            return self._evict()
        if choice < 0.4 and self.truth:
            return self._store_again()
        return self._grow()

    def _grow(self):
        parent = self._rng.choice([None, *self._parents])
        chain = [self._rng.getrandbits(64) for _ in range(self._rng.randint(1, 4))]
        tier = self._rng.choice([Tier.DEVICE, Tier.DEVICE, Tier.HOST])
        for before, key in zip([parent, *chain], chain, strict=False):
            self._parents[key] = before
            self.truth[key, tier] += 1
        return stored(parent, *chain, tier=tier)

    def _store_again(self):
        key, _ = self._rng.choice(list(self.truth))
        tier = self._rng.choice(list(Tier))
        self.truth[key, tier] += 1
        return stored(self._parents[key], key, tier=tier)

    def _evict(self):
        key, tier = self._rng.choice(list(self.truth))
        self.truth[key, tier] -= 1
        self.truth += Counter()  # drops what reached zero
        return removed(key, tier=tier)


@dataclass
class Faults:
    """Chances for each message."""

    lose: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    mangle: float = 0.0
    garbage: float = 0.0


class FakeLink:
    """Messages in flight, ordered by when they arrive."""

    def __init__(self, rng: random.Random, faults: Faults) -> None:
        self._rng = rng
        self.faults = faults
        self._in_flight: list[tuple[int, int, object]] = []
        self._count = 0
        self.cut_until_ns = 0

    def send(self, frames, now_ns: int) -> None:
        rng, faults = self._rng, self.faults
        if now_ns < self.cut_until_ns or rng.random() < faults.lose:
            return
        if rng.random() < faults.mangle:
            frames = mangled(frames, rng)
        if rng.random() < faults.garbage:
            frames = [*frames[:-1], rng.randbytes(rng.randint(0, 20))]
        for _ in range(2 if rng.random() < faults.repeat else 1):
            wait_ms = rng.randint(1, 300) if rng.random() < faults.delay else 1
            self._count += 1
            heapq.heappush(self._in_flight, (now_ns + wait_ms * MS, self._count, frames))

    def arrived(self, now_ns: int):
        while self._in_flight and self._in_flight[0][0] <= now_ns:
            yield heapq.heappop(self._in_flight)[2]


def mangled(frames, rng: random.Random):
    """A batch whose bytes are well formed and say something else: one event is missing."""
    if frames[0] != TOPIC_BATCH:
        return frames
    payload = msgpack.unpackb(frames[-1])
    if payload[1]:
        payload[1].pop(rng.randrange(len(payload[1])))
    return [*frames[:-1], msgpack.packb(payload)]


SETTINGS = SessionSettings(max_buffered_batches=32, max_replay_batches=32)


class RouterEnd:
    """A session, and its actions carried out on a plain index: copies per (key, tier)."""

    def __init__(
        self, session=StreamSession, settings: SessionSettings = SETTINGS, rank: int = 0
    ) -> None:
        self.session = session(self.account, rank, settings)
        self.index: Counter[tuple[int, Tier]] = Counter()
        self.n_copies = self.digest = 0
        self.asked: list[RequestResend | RequestSnapshot] = []
        self.states: list[StreamState] = []

    def account(self) -> Account:
        return Account(self.n_copies, self.digest % 2**64)

    def held(self) -> Counter[tuple[int, Tier]]:
        """Copies by (key, tier), as this router believes them."""
        return self.index

    def carry_out(self, actions) -> None:
        for action in actions:
            if isinstance(action, Apply):
                for event in action.events:
                    self._apply(event)
            elif isinstance(action, Reset):
                self._apply(CacheCleared())
            elif isinstance(action, RequestResend | RequestSnapshot):
                self.asked.append(action)
            else:
                self.states.append(action.new)

    def _apply(self, event) -> None:
        if isinstance(event, CacheCleared):
            self.index.clear()
            self.n_copies = self.digest = 0
            return
        sign = 1 if isinstance(event, BlocksStored) else -1
        for key in event.keys.tolist():
            self.n_copies += sign
            self.digest += sign * mix(key, event.tier)
            self.index[key, event.tier] = max(0, self.index[key, event.tier] + sign)
        self.index += Counter()


def item_of(decode, frames):
    try:
        return decode(frames)
    except RemoteEventError as error:
        return Malformed(str(error))


def request_of(action) -> ResendRequest | SnapshotRequest:
    if isinstance(action, RequestSnapshot):
        return SnapshotRequest()
    return ResendRequest(action.from_seq, action.to_seq)


class World:
    """One rank of a worker, its session at a router, two links between them, one seed."""

    def __init__(self, seed: int, router: RouterEnd | None = None, rank: int = 0) -> None:
        self.rng = random.Random(f"{seed}/{rank}" if rank else seed)
        self.rank = rank
        self.socket: list[World] = [self]  # ranks whose publishers and subscribers share addresses
        self.now_ns = 0
        faults = Faults(
            lose=self.rng.choice([0.0, 0.05, 0.3]),
            repeat=self.rng.choice([0.0, 0.2]),
            delay=self.rng.choice([0.0, 0.0, 0.3]),
            mangle=self.rng.choice([0.0, 0.0, 0.03]),
            garbage=self.rng.choice([0.0, 0.0, 0.02]),
        )
        self._mangles = faults.mangle > 0
        self.events = FakeLink(self.rng, faults)
        self.control_up = FakeLink(self.rng, Faults(lose=faults.lose))
        self.control_down = FakeLink(self.rng, Faults(lose=faults.lose, delay=faults.delay))
        self.router = router or RouterEnd(rank=rank)
        self._lives = 0
        self._confirm_at_ns: int | None = None
        self.restart()

    def restart(self) -> None:
        """The worker comes back empty, under a new epoch that the router learns a little later."""
        self._lives += 1
        epoch = make_epoch(self._lives, self.rng.randbytes(8))
        for world in self.socket:
            world._begin(epoch)

    def _begin(self, epoch: Epoch) -> None:
        self.cache = FakeCache(self.rng)
        ring_batches = self.rng.choice([2, 20])
        self.stream = OutboundStream(
            epoch, self.rank, ring_batches=ring_batches, ring_bytes=1 << 20, part_blocks=7
        )
        self.truth_after: list[Counter[tuple[int, Tier]]] = []  # by seq
        self._confirm_at_ns = self.now_ns + self.rng.randint(0, 200) * MS

    @property
    def is_believed_right(self) -> bool:
        """Credited streams are right up to the last applied batch, at any moment.

        Only a mangled batch can fool a session, and only until the next heartbeat.
        """
        session = self.router.session
        if self._mangles or session.epoch != self.stream.epoch or not session.state.is_credited:
            return True
        return self.is_right_so_far()

    def is_right_so_far(self, compare=set) -> bool:
        """Whether the index is what the last applied batch left; `compare`: Counter, copies too."""
        seq = self.router.session.applied_seq
        if seq is None:
            return not self.router.held()
        known = seq < len(self.truth_after)
        return known and bool(compare(self.router.held()) == compare(self.truth_after[seq]))

    def run(self, steps: int, *, is_busy: bool) -> None:
        """Every rank of the socket, turn by turn."""
        for _ in range(steps):
            for world in self.socket:
                world._turn(is_busy=is_busy)

    def quieten(self) -> None:
        """No faults and no work from here on, until two heartbeats changed nothing."""
        for world in self.socket:
            for link in (world.events, world.control_up, world.control_down):
                link.faults = Faults()
        self.run(100, is_busy=False)
        sessions = [world.router.session for world in self.socket]
        for _ in range(40):
            before = [len(world.router.states) for world in self.socket]
            self.run(55, is_busy=False)
            is_settled = before == [len(world.router.states) for world in self.socket]
            if is_settled and all(session.state is StreamState.LIVE for session in sessions):
                return

    def _turn(self, *, is_busy: bool) -> None:
        self.now_ns += 10 * MS
        if is_busy:
            self._work()
            assert self.is_believed_right
        if self.now_ns % (250 * MS) == 0:
            self._publish(encode_heartbeat(self.stream.heartbeat(LOAD)))
        self._serve()
        self._receive()

    def _work(self) -> None:
        if self.rng.random() < 0.005:
            self.restart()
        if self.rng.random() < 0.003:  # longer than a stream may be silent
            self.events.cut_until_ns = self.now_ns + self.rng.randint(1000, 2500) * MS
        if self.rng.random() < 0.5:
            events = self.cache.step()
            self.truth_after.append(self.cache.truth.copy())
            if self.rng.random() < 0.03:
                self.stream.drop(events)
                return
            frames = self.stream.record(events, 0.0)
            assert frames is not None
            self._publish(frames)

    def _publish(self, frames) -> None:
        """Every subscriber of the socket gets everything, whoever means it."""
        for world in self.socket:
            world.events.send(frames, self.now_ns)

    def _serve(self) -> None:
        for frames in self.control_up.arrived(self.now_ns):
            for reply in self._answer(decode_request(frames)):
                self.control_down.send(reply, self.now_ns)

    def _answer(self, request: ResendRequest | SnapshotRequest):
        """What all ranks of the socket have; a resend ends when the last of them has said its."""
        streams = [world.stream for world in self.socket]
        if isinstance(request, SnapshotRequest):
            return [frames for stream in streams for frames in stream.snapshot()]
        answers = [list(stream.resend(request)) for stream in streams]
        return [frames for answer in answers for frames in answer[:-1]] + [answers[0][-1]]

    def _receive(self) -> None:
        session, router = self.router.session, self.router
        if self._confirm_at_ns is not None and self.now_ns >= self._confirm_at_ns:
            self._confirm_at_ns = None
            router.carry_out(session.confirm_epoch(self.stream.epoch, self.now_ns))
        for link, decode in ((self.events, decode_frames), (self.control_down, decode_reply)):
            for frames in link.arrived(self.now_ns):
                self._deliver(item_of(decode, frames))
        router.carry_out(session.tick(self.now_ns))
        for asked in router.asked:
            self.control_up.send(encode_request(request_of(asked)), self.now_ns)
        router.asked.clear()

    def _deliver(self, item) -> None:
        self.router.carry_out(self.router.session.deliver(item, self.now_ns))


def share_a_socket(worlds: list[World]) -> None:
    """Ranks of one worker: one life, one address to publish at and to ask; each its own seq."""
    for world in worlds:
        world.socket = worlds
    worlds[0].restart()
