"""A mirror without a limit: our own publisher says no more copies than a snapshot can, others may.

Follows some blocks by itself and leaves the others to the publisher's own mirror.
"""

from collections.abc import Iterator

from radixroute.events.publish.mirror import StreamMirror
from radixroute.events.wire.records import BlocksStored, CacheCleared, Epoch, Event, SnapshotPart
from radixroute.radix.digest import DIGEST_MASK, Account, mix_many
from radixroute.radix.ids import Keys, Tier


class HoardMirror:
    """Stands where a stream had a `StreamMirror`."""

    def __init__(self, others: StreamMirror, keys: Keys) -> None:
        self._others = others
        self._keys = frozenset(keys.tolist())
        self._nothing = self._here = Account(0, 0)

    @property
    def account(self) -> Account:
        there, here = self._others.account, self._here
        return Account(there.n_copies + here.n_copies, (there.digest + here.digest) & DIGEST_MASK)

    @property
    def n_blocks(self) -> int:
        return self._others.n_blocks + (len(self._keys) if self._here.n_copies else 0)

    def apply(self, event: Event) -> Event:
        """Events of its own blocks have no others in them."""
        if isinstance(event, CacheCleared):
            self._here = self._nothing
        elif self._keys.issuperset(event.keys.tolist()):
            sign = 1 if isinstance(event, BlocksStored) else -1
            digest = self._here.digest + sign * mix_many(event.keys, Tier.DEVICE)
            n_copies = self._here.n_copies + sign * len(event.keys)
            self._here = Account(n_copies, digest & DIGEST_MASK)
            return event
        return self._others.apply(event)

    def snapshot_parts(
        self, epoch: Epoch, rank: int, *, seq: int | None, max_blocks: int
    ) -> Iterator[SnapshotPart]:
        """Only as long as it holds no such blocks."""
        assert not self._here.n_copies, "a snapshot was asked for where nothing was lost"
        return self._others.snapshot_parts(epoch, rank, seq=seq, max_blocks=max_blocks)

    def check(self) -> None:
        self._others.check()
