"""A publisher's own account of what its stream says is resident, for heartbeats and snapshots.

Fed by the events that are sent, never by walking an engine's tree. It is a prefix index with one
holder: some 40 bytes a block, and a snapshot of a million blocks is read out in a fraction of a
second. One writer, the publisher's thread.
"""

from collections.abc import Iterator

from radixroute.events.errors import LocalEventError
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Epoch,
    Event,
    SnapshotPart,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex

_SELF = Holder(WorkerId("self"))
# Virtual until used. 20 million blocks: more than any worker's pool and tiers hold.
DEFAULT_BYTES = 1 << 30


class StreamMirror:
    """Physical copies per (key, tier), each key's parent, and the account of both."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._index = PrefixIndex(max_bytes)
        self._index.join(_SELF)
        self.unknown_removals = 0

    @property
    def account(self) -> Account:
        """What a subscriber that missed nothing was told."""
        return self._index.account(_SELF)

    @property
    def n_blocks(self) -> int:
        """Distinct (key, tier) pairs resident."""
        return self._index.n_blocks(_SELF)

    def apply(self, event: Event) -> Event:
        """Follows one event and returns what may be sent of it. O(blocks of the event).

        A removal of what is not there is a bug of the engine: counted, and not passed on, because
        no snapshot could ever agree with it.
        """
        match event:
            case BlocksStored():
                self._index.store(_SELF, event.parent, event.keys, event.tier)
                if self._index.n_forgotten:
                    raise LocalEventError("the mirror is full: its budget is below the KV pool's")
                if self._index.n_uncounted:
                    raise LocalEventError("more copies of one block than a snapshot can say")
            case BlocksRemoved():
                known = self._index.remove_known(_SELF, event.keys, event.tier)
                if len(known) != len(event.keys):
                    self.unknown_removals += len(event.keys) - len(known)
                    return BlocksRemoved(known, event.tier)
            case CacheCleared():
                self._index.clear(_SELF)
        return event

    def snapshot_parts(
        self, epoch: Epoch, rank: int, *, seq: int | None, max_blocks: int
    ) -> Iterator[SnapshotPart]:
        """`runs`, cut into parts of exactly `max_blocks` copies (the last may have fewer).

        What is resident is read at once, so events may be applied while the parts are made.
        """
        return _parts(self.runs(), epoch, rank, seq, max_blocks)

    def runs(self) -> list[BlocksStored]:
        """Everything resident, each parent before its children, one run for each copy."""
        return [BlocksStored(run.parent, run.keys, run.tier) for run in self._index.dump(_SELF)]

    def check(self) -> None:
        """Raises if the account contradicts itself. O(blocks), slow."""
        self._index.check()
        resident = StreamMirror(DEFAULT_BYTES)
        for run in self.runs():
            resident.apply(run)
        if resident.account != self.account:
            raise LocalEventError("mirror: the account is not that of the resident copies")


def _parts(
    runs: list[BlocksStored], epoch: Epoch, rank: int, seq: int | None, max_blocks: int
) -> Iterator[SnapshotPart]:
    count = max(1, -(-sum(len(run.keys) for run in runs) // max_blocks))
    index = 0
    part: list[BlocksStored] = []
    n_free = max_blocks
    for run in runs:
        for piece in _cut(run, n_free, max_blocks):
            part.append(piece)
            n_free -= len(piece.keys)
            if n_free == 0:
                yield SnapshotPart(epoch, rank, seq, index, count, tuple(part))
                index, part, n_free = index + 1, [], max_blocks
    if part or index == 0:
        yield SnapshotPart(epoch, rank, seq, index, count, tuple(part))


def _cut(run: BlocksStored, n_free: int, max_blocks: int) -> Iterator[BlocksStored]:
    """The run in pieces: the first fits `n_free`, the others `max_blocks`; parents stay true."""
    start, end = 0, min(n_free, len(run.keys))
    while start < len(run.keys):
        parent = run.parent if start == 0 else BlockKey(int(run.keys[start - 1]))
        yield BlocksStored(parent, run.keys[start:end], run.tier)
        start, end = end, min(end + max_blocks, len(run.keys))
