"""Puts snapshot parts together. Parts of different seqs never mix: the newer seq wins.

Bounded: a snapshot of more blocks than any cache has is refused.
"""

from radixroute.events.wire.records import BlocksStored, SnapshotPart

# 1,024 million tokens of block 16: beyond any worker's memory.
MAX_SNAPSHOT_BLOCKS = 1 << 26


class SnapshotAssembly:
    """Owned by one `StreamSession`. Parts may come in any order and more than once."""

    def __init__(self) -> None:
        self._parts: dict[int, SnapshotPart] = {}
        self._n_blocks = 0

    @property
    def is_complete(self) -> bool:
        part = self._any_part()
        return part is not None and len(self._parts) == part.count

    def add(self, part: SnapshotPart) -> bool:
        """Takes a part; False if it adds nothing."""
        have = self._any_part()
        if have is not None and (have.seq, have.count) != (part.seq, part.count):
            if _order(part) <= _order(have):
                return False
            self.clear()
        n_blocks = sum(len(run.keys) for run in part.runs)
        if part.index in self._parts or self._n_blocks + n_blocks > MAX_SNAPSHOT_BLOCKS:
            return False
        self._parts[part.index] = part
        self._n_blocks += n_blocks
        return True

    def take(self) -> tuple[BlocksStored, ...]:
        """All runs, parents before children; the assembly is empty afterwards."""
        parts = [self._parts[index] for index in sorted(self._parts)]
        self.clear()
        return tuple(run for part in parts for run in part.runs)

    def clear(self) -> None:
        """Forgets what was collected."""
        self._parts = {}
        self._n_blocks = 0

    def _any_part(self) -> SnapshotPart | None:
        return next(iter(self._parts.values()), None)


def _order(part: SnapshotPart) -> int:
    return -1 if part.seq is None else part.seq
