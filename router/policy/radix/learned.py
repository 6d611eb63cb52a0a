"""Learned blocks: what workers should hold, as far as this router's own decisions tell.

Owns that belief, for policies that do without cache events: a prompt's blocks are thought to be
where it was last sent, for a time to live since they were last sent there, and no more of them than
the worker's cache has room for (the least recently sent are forgotten first, ends of prompts before
their beginnings, as a cache evicts them). Nothing is kept until such a policy decides. No clock, no
I/O; `RouterCore`'s parts call.
"""

from collections import deque
from itertools import islice

import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index.contract import Overlaps
from radixroute.radix.index.prefix_index import PrefixIndex

MAX_BLOCKS = 1 << 20  # of all workers; Dynamo prunes at as many. Some 150 bytes each
_INDEX_BYTES = 128 << 20  # room for so many even if no two workers share one


class LearnedBlocks:
    """Block keys by worker, each with the end of its time."""

    def __init__(self, ttl_ns: int, max_blocks: int = MAX_BLOCKS) -> None:
        self._ttl_ns = ttl_ns
        self._max_blocks = max_blocks
        self._index: PrefixIndex | None = None
        # Until when, by key; least recently sent first, and of one prompt the last block first. So
        # what goes from the front never leaves a block without its prefix.
        self._until: dict[WorkerId, dict[int, int]] = {}
        self._due: deque[tuple[int, WorkerId]] = deque()  # one for each decision, oldest first

    def overlaps(self, keys: Keys) -> Overlaps:
        """As `PrefixIndex` gives them: of what was learned only."""
        return self._of().overlaps(keys)

    def learn(self, worker_id: WorkerId, keys: Keys, *, capacity: int, now_ns: int) -> int:
        """A prompt with these blocks goes there, whose cache has `capacity` blocks (0: not known).

        Returns how many blocks were forgotten for want of it. O(blocks).
        """
        until = self._until.get(worker_id)
        if until is None:
            until = self._until[worker_id] = {}
            self._of().join(Holder(worker_id))
        names, end_ns = keys.tolist(), now_ns + self._ttl_ns
        n_known = next((i for i, key in enumerate(names) if key not in until), len(names))
        for key in reversed(names):
            until.pop(key, None)
            until[key] = end_ns
        self._due.append((end_ns, worker_id))
        parent = BlockKey(names[n_known - 1]) if n_known else None
        if n_known < len(names):
            self._of().store(Holder(worker_id), parent, keys[n_known:], Tier.DEVICE)
        share = max(1, self._max_blocks // len(self._until))
        return self._drop(worker_id, len(until) - min(capacity or share, share))

    def expire(self, now_ns: int) -> int:
        """Forgets what was not sent again in time; returns how many blocks. O(those)."""
        lapsed = 0
        while self._due and self._due[0][0] <= now_ns:
            _, worker_id = self._due.popleft()
            until = self._until.get(worker_id, {})
            n = 0
            for end_ns in until.values():
                if end_ns > now_ns:
                    break
                n += 1
            lapsed += self._drop(worker_id, n)
        return lapsed

    def forget(self, worker_id: WorkerId) -> None:
        """Its cache is gone."""
        if self._until.pop(worker_id, None) is not None:
            self._of().leave(Holder(worker_id))

    def n_blocks(self, worker_id: WorkerId) -> int:
        return len(self._until.get(worker_id, {}))

    def check(self) -> None:
        for worker_id, until in self._until.items():
            if self._of().n_blocks(Holder(worker_id)) != len(until):
                raise BrokenInvariant(f"{worker_id}: learned blocks and their index differ")
            ends = list(until.values())
            if ends != sorted(ends):
                raise BrokenInvariant(f"{worker_id}: learned blocks are not in order of time")

    def _drop(self, worker_id: WorkerId, n: int) -> int:
        """The `n` least recently sent blocks of a worker, if that is any; how many."""
        if n <= 0:
            return 0
        until = self._until[worker_id]
        gone = list(islice(until, n))
        for key in gone:
            del until[key]
        self._of().remove(Holder(worker_id), np.array(gone, np.uint64), Tier.DEVICE)
        return n

    def _of(self) -> PrefixIndex:
        if self._index is None:
            self._index = PrefixIndex(_INDEX_BYTES)
        return self._index
