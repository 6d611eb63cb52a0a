"""Recordings to test with: made by hand, or of a whole world of faults; and what they amount to."""

import io
from collections import Counter
from typing import Any

from radixroute.events.errors import RemoteEventError
from radixroute.events.recording.follower import StreamFollower
from radixroute.events.recording.reader import RecordingReader
from radixroute.events.recording.recorder import EventRecorder
from radixroute.events.recording.recording import Channel, Message, Source, Wire
from radixroute.events.wire.control import decode_reply
from radixroute.events.wire.native import decode_frames
from radixroute.events.wire.records import BlocksStored, CacheCleared, EventBatch, SnapshotPart
from radixroute.radix.ids import Holder
from tests.events.fakes import HOLDER, World
from tests.events.session_bench import EPOCH


def source(worker="w0", epoch=EPOCH, **fields) -> Source:
    values: dict[str, Any] = {"ranks": 1, "wire": Wire.NATIVE}
    values |= {"events": "tcp://a:1", "control": "tcp://a:2"}
    return Source(worker=worker, epoch=epoch, **(values | fields))


def recorder_of(*sources, **fields) -> tuple[EventRecorder, io.BytesIO]:
    file = io.BytesIO()
    return EventRecorder(file, started_unix_ns=0, by="a test", sources=sources, **fields), file


def reader_of(file: io.BytesIO) -> RecordingReader:
    return RecordingReader(io.BytesIO(file.getvalue()))


def content_of(index, holder: Holder) -> set[Any]:
    return {(key, run.tier) for run in index.dump(holder) for key in run.keys.tolist()}


class RecordedWorld(World):
    """A world whose router records while it follows; its follower asks for what it misses."""

    def __init__(self, seed: int, faults=None) -> None:
        self.recorder, self.file = recorder_of()
        self.follower = StreamFollower(self.recorder.header, self._ask)
        self.truths: dict[bytes, list[Any]] = {}  # what was held after each seq, by epoch
        self.lived: list[set[Any]] = []  # what the follower knew after each record
        self._number: int | None = None
        super().__init__(seed)
        if faults is not None:
            self.events.faults = self.control_up.faults = self.control_down.faults = faults
        self.events.faults.mangle = 0.0  # lies are the lossy link's test's

    def restart(self) -> None:
        super().restart()
        self.truths[self.stream.epoch] = self.truth_after

    def lose_next(self, n_batches: int = 1) -> None:
        """Batches that nobody receives, though the ring keeps them."""
        for _ in range(n_batches):
            events = self.cache.step()
            self.truth_after.append(Counter(self.cache.truth))
            self.stream.record(events, 0.0)

    def finish(self) -> RecordingReader:
        self.follower.follow(self.recorder.finish(self.now_ns))
        return reader_of(self.file)

    def _ask(self, number, frames) -> None:
        self.control_up.send(frames, self.now_ns)

    def _receive(self) -> None:
        if self._confirm_at_ns is not None and self.now_ns >= self._confirm_at_ns:
            self._confirm_at_ns = None
            joined = self.recorder.join(self.now_ns, source(epoch=self.stream.epoch))
            self._number = joined[0]
            self._follow(joined[1])
        for link, channel in (
            (self.events, Channel.EVENTS),
            (self.control_down, Channel.CONTROL),
        ):
            for frames in link.arrived(self.now_ns):
                if self._number is not None:
                    self._follow(
                        self.recorder.message(self.now_ns, self._number, channel, list(frames))
                    )
        self.follower.advance(self.now_ns)

    def _follow(self, record) -> None:
        self.follower.follow(record)
        self.lived.append(content_of(self.follower.index, HOLDER))


def folded(records, epoch, applied_seq) -> set[Any]:
    """What `records` amount to after `applied_seq`: a base and the batches that follow it.

    Naive, and knows nothing of sessions, states or the index.
    """
    batches: dict[int, Any] = {}
    parts: dict[Any, dict[int, SnapshotPart]] = {}
    for record in records:
        item = item_of(record)
        if isinstance(item, EventBatch) and item.epoch == epoch:
            batches[item.seq] = item.events
        if isinstance(item, SnapshotPart) and item.epoch == epoch:
            parts.setdefault(item.seq, {})[item.index] = item
    held: Counter[Any] = Counter()
    first = 0
    whole = [
        seq
        for seq, by_index in parts.items()
        if len(by_index) == next(iter(by_index.values())).count
        and (-1 if seq is None else seq) <= (-1 if applied_seq is None else applied_seq)
    ]
    if whole:
        base = max(whole, key=lambda seq: -1 if seq is None else seq)
        first = 0 if base is None else base + 1
        for part in parts[base].values():
            _change(held, part.runs)
    for seq in range(first, 0 if applied_seq is None else applied_seq + 1):
        _change(held, batches[seq])
    return {pair for pair, n in held.items() if n > 0}


def _change(held: Counter[Any], events) -> None:
    for event in events:
        if isinstance(event, CacheCleared):
            held.clear()
            continue
        sign = 1 if isinstance(event, BlocksStored) else -1
        for key in event.keys.tolist():
            held[key, event.tier] += sign


def item_of(record):
    if not isinstance(record, Message):
        return None
    try:
        decode = decode_frames if record.channel is Channel.EVENTS else decode_reply
        return decode(record.frames)
    except RemoteEventError:
        return None
