"""Active blocks: how many distinct prompt blocks the running requests of each worker use.

Owns a count for each block of each running request, in an index of its own. Only some peers' costs
read it, so nothing is kept until a policy asks. No clock, no I/O.
"""

import numpy as np

from radixroute.radix.ids import Holder, Keys, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.router.policy.view import Numbers
from radixroute.router.workers.load import BookingId

_BYTES = 64 << 20  # a million blocks in use


class ActiveBlocks:
    """Blocks in use, counted once for each worker."""

    def __init__(self) -> None:
        self._index: PrefixIndex | None = None
        self._held: dict[BookingId, tuple[Holder, Keys]] = {}

    def add(self, key: BookingId, worker_id: WorkerId, keys: Keys) -> None:
        """A request with these blocks runs there from now on. O(blocks)."""
        holder = self._holder(worker_id)
        self._held[key] = (holder, keys)
        self._of().store(holder, None, keys, Tier.DEVICE)

    def end(self, key: BookingId) -> None:
        """It runs no more. Unknown ones are fine. O(blocks)."""
        held = self._held.pop(key, None)
        if held is not None:
            self._of().remove(*held, Tier.DEVICE)

    def counts(self, worker_ids: tuple[WorkerId, ...], keys: Keys) -> tuple[Numbers, Numbers]:
        """Distinct blocks in use on each worker, and those a prompt with `keys` would add."""
        index = self._of()
        holders = [self._holder(worker_id) for worker_id in worker_ids]
        overlaps = index.overlaps(keys)
        used = np.array([index.n_blocks(holder) for holder in holders], np.float64)
        known = np.array([overlaps.blocks_of(holder) for holder in holders], np.float64)
        return used, len(keys) - known

    def _of(self) -> PrefixIndex:
        if self._index is None:
            self._index = PrefixIndex(_BYTES)
        return self._index

    def _holder(self, worker_id: WorkerId) -> Holder:
        holder = Holder(worker_id)
        index = self._of()
        if holder not in index.holders:
            index.join(holder)
        return holder
