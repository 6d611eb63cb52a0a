"""A session with a clock and a plain index, and short ways to say what arrives."""

from radixroute.events.publish.mirror import StreamMirror
from radixroute.events.settings import SessionSettings
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.records import EventBatch, Heartbeat, SnapshotPart
from tests.events.fakes import LOAD, MS, RouterEnd, stored

EPOCH = make_epoch(1, b"11111111")
OTHER = make_epoch(2, b"22222222")
SETTINGS = SessionSettings(max_buffered_batches=4, max_replay_batches=8)


def batch(seq, *events, epoch=EPOCH, rank=0) -> EventBatch:
    return EventBatch(epoch, rank, seq, events or (stored(None, 100 + seq),))


def beat(last_seq, *events, epoch=EPOCH, rank=0) -> Heartbeat:
    mirror = StreamMirror()
    for event in events:
        mirror.apply(event)
    return Heartbeat(epoch, rank, last_seq, mirror.account, LOAD)


def honest_beat(last_seq) -> Heartbeat:
    """What a publisher says after the default batches 0 to `last_seq`."""
    return beat(last_seq, *(stored(None, 100 + seq) for seq in range(last_seq + 1)))


def part(seq, *runs, index=0, count=1, epoch=EPOCH) -> SnapshotPart:
    return SnapshotPart(epoch, 0, seq, index, count, runs)


class Bench:
    """A session, a clock and the actions of the last input."""

    def __init__(self, *, is_live: bool = False) -> None:
        self.router = RouterEnd(settings=SETTINGS)
        self.session = self.router.session
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
