"""The newest batches of a stream as they were sent, for whoever missed some. Pure.

Owned by what numbers the batches; bounded in batches and in bytes, the oldest go first.
"""

from collections import deque
from dataclasses import dataclass

from radixroute.events.errors import LocalEventError

Frames = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """One batch."""

    seq: int
    frames: Frames


class BatchRing:
    """Kept batches by rising seq; a seq that was dropped is missing."""

    def __init__(self, max_batches: int, max_bytes: int) -> None:
        self._kept: deque[Kept] = deque(maxlen=max_batches)
        self._n_bytes = 0
        self._max_bytes = max_bytes

    def keep(self, seq: int, frames: Frames) -> None:
        if len(self._kept) == self._kept.maxlen:
            self._n_bytes -= _size(self._kept.popleft())
        one = Kept(seq, frames)
        self._kept.append(one)
        self._n_bytes += _size(one)
        while self._n_bytes > self._max_bytes:
            self._n_bytes -= _size(self._kept.popleft())

    def between(self, from_seq: int, to_seq: int) -> list[Kept]:
        """What is kept of these seqs, both ends included, oldest first."""
        return [one for one in self._kept if from_seq <= one.seq <= to_seq]

    def check(self, next_seq: int) -> None:
        """Raises on a broken invariant; `next_seq` has not been given to a batch yet."""
        seqs = [one.seq for one in self._kept]
        if seqs != sorted(set(seqs)) or (seqs and seqs[-1] >= next_seq):
            raise LocalEventError("the ring is out of order")
        if self._n_bytes != sum(map(_size, self._kept)):
            raise LocalEventError("the ring is mismeasured")


def _size(kept: Kept) -> int:
    return sum(map(len, kept.frames))
