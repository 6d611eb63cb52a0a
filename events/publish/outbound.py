"""The sending half of a native stream without its sockets: seq, ring, mirror, heartbeat.

What the heartbeat says and what was sent agree because one caller does both, in order. Owned by
the publisher's thread; tests pair it with a `StreamSession` over a fake link.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from radixroute.events.publish.mirror import DEFAULT_BYTES, StreamMirror
from radixroute.events.publish.ring import BatchRing
from radixroute.events.wire.control import (
    ResendDone,
    ResendRequest,
    encode_part,
    encode_resend_done,
)
from radixroute.events.wire.native import MAX_PAYLOAD_BYTES, encode_batch
from radixroute.events.wire.records import Epoch, Event, EventBatch, Heartbeat, LoadReport


@dataclass(slots=True)
class OutboundCounters:
    """Batches by what became of them."""

    sent: int = 0
    dropped: int = 0  # consumed a seq, reached the mirror, were never sent
    too_big: int = 0  # of these, refused for their size


class OutboundStream:
    """One epoch of one rank. `record` and `drop` both follow the events: the mirror never lies."""

    def __init__(
        self,
        epoch: Epoch,
        rank: int,
        *,
        ring_batches: int,
        ring_bytes: int,
        part_blocks: int,
        mirror_bytes: int = DEFAULT_BYTES,
    ) -> None:
        self._epoch = epoch
        self._rank = rank
        self._mirror = StreamMirror(mirror_bytes)
        self._next_seq = 0
        self._ring = BatchRing(ring_batches, ring_bytes)
        self._part_blocks = part_blocks
        self.counters = OutboundCounters()

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    @property
    def last_seq(self) -> int | None:
        """Seq of the newest batch; None before the first."""
        return self._next_seq - 1 if self._next_seq else None

    @property
    def n_blocks(self) -> int:
        return self._mirror.n_blocks

    def record(self, events: tuple[Event, ...], ts: float) -> tuple[bytes, ...] | None:
        """Follows a batch, keeps it in the ring and returns its frames; None if it was dropped.

        A dropped batch consumes its seq all the same, so that every subscriber sees the gap.
        """
        batch = EventBatch(self._epoch, self._rank, self._next_seq, self._follow(events), ts)
        frames = tuple(encode_batch(batch))
        if len(frames[-1]) > MAX_PAYLOAD_BYTES:
            self.counters.too_big += 1
            self.counters.dropped += 1
            return None
        self._ring.keep(batch.seq, frames)
        self.counters.sent += 1
        return frames

    def drop(self, events: tuple[Event, ...]) -> None:
        """Follows a batch that will not be sent."""
        self._follow(events)
        self.counters.dropped += 1

    def heartbeat(self, load: LoadReport) -> Heartbeat:
        """What is true after the newest batch."""
        return Heartbeat(
            epoch=self._epoch,
            rank=self._rank,
            last_seq=self.last_seq,
            account=self._mirror.account,
            load=load,
        )

    def kept(self, request: ResendRequest) -> Iterator[tuple[bytes, ...]]:
        """Frames of every kept batch asked for, oldest first."""
        for kept in self._ring.between(request.from_seq, request.to_seq):
            yield kept.frames

    def resend(self, request: ResendRequest) -> Iterator[tuple[bytes, ...]]:
        """The same, then the end mark."""
        yield from self.kept(request)
        yield tuple(encode_resend_done(ResendDone(self._epoch, request.from_seq)))

    def snapshot(self) -> Iterator[tuple[bytes, ...]]:
        """Frames of everything resident now; stays so however long it is read."""
        parts = self._mirror.snapshot_parts(
            self._epoch, self._rank, seq=self.last_seq, max_blocks=self._part_blocks
        )
        return (tuple(encode_part(part)) for part in parts)

    def check(self) -> None:
        """Raises on a broken invariant."""
        self._mirror.check()
        self._ring.check(self._next_seq)

    def _follow(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """What may be sent of them."""
        self._next_seq += 1
        return tuple(self._mirror.apply(event) for event in events)
