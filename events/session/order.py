"""Puts batches in order: what comes next, what waits for something missing, what must exist.

Owned by one `StreamSession`. Bounded: overflow loses the oldest waiting batch, never a newer one,
because a snapshot will cover the oldest first.
"""

from radixroute.events.errors import LocalEventError
from radixroute.events.wire.records import EventBatch


class BatchOrder:
    """Batches of one epoch of one rank. `next_seq` is the first not handed out yet."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: dict[int, EventBatch] = {}
        self._next_seq = 0
        self._known_seq: int | None = None  # highest seq known to exist

    @property
    def next_seq(self) -> int:
        return self._next_seq

    @property
    def last_seq(self) -> int | None:
        """The last batch handed out, or covered by the base; None: none."""
        return self._next_seq - 1 if self._next_seq else None

    @property
    def known_seq(self) -> int | None:
        return self._known_seq

    @property
    def is_behind(self) -> bool:
        """Whether a batch is known to exist that was not handed out."""
        return self.missing > 0

    @property
    def missing(self) -> int:
        """How far the known end of the stream is ahead, in batches."""
        return 0 if self._known_seq is None else max(0, self._known_seq - self._next_seq + 1)

    @property
    def is_complete_from_start(self) -> bool:
        """Whether the first batch of the epoch waits here."""
        return 0 in self._waiting

    def is_waiting(self, seq: int) -> bool:
        return seq in self._waiting

    def learn(self, seq: int) -> None:
        """Batch `seq` exists."""
        self._known_seq = seq if self._known_seq is None else max(seq, self._known_seq)

    def keep(self, batch: EventBatch) -> bool:
        """Lets a batch wait; False if the oldest waiting one was lost for it."""
        self.learn(batch.seq)
        self._waiting[batch.seq] = batch
        if len(self._waiting) <= self._max_waiting:
            return True
        del self._waiting[min(self._waiting)]
        return False

    def step(self, seq: int) -> bool:
        """Hands out `seq` at once if it is next and nothing waits; the way of almost every batch.

        For a stream that is not behind.
        """
        if seq != self._next_seq or self._waiting:
            return False
        self._next_seq += 1
        self._known_seq = seq if self._known_seq is None else max(seq, self._known_seq)
        return True

    def take(self) -> list[EventBatch]:
        """Hands out every batch that is next; forgets those that came too late."""
        taken = []
        while (batch := self._waiting.pop(self._next_seq, None)) is not None:
            taken.append(batch)
            self._next_seq += 1
        if self._waiting and min(self._waiting) < self._next_seq:
            self._waiting = {s: b for s, b in self._waiting.items() if s >= self._next_seq}
        return taken

    def rebase(self, next_seq: int) -> list[EventBatch]:
        """Goes on at `next_seq`, handing out what follows it without a hole.

        Batches beyond a hole are forgotten, not waited for: if they exist, the next heartbeat
        says so, and if one was a lie, this is how it is got rid of.
        """
        self._next_seq = next_seq
        taken = self.take()
        self._waiting.clear()
        self._known_seq = self.last_seq
        return taken

    def clear(self) -> None:
        """A new epoch."""
        self._waiting.clear()
        self._next_seq, self._known_seq = 0, None

    def check(self) -> None:
        """Raises on a broken invariant."""
        if len(self._waiting) > self._max_waiting:
            raise LocalEventError("more batches wait than may")
        if self._waiting and max(self._waiting) > (self._known_seq or 0):
            raise LocalEventError("a batch waits that is not known to exist")
