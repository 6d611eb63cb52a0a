"""Expected blocks: what a worker will hold soon because a prompt was just sent there.

Owns these expectations. Without them a burst of one cold prefix would scatter: until the first
stored event arrives nobody seems to hold it. An expectation ends with the stored event, with its
attempt (settle, abort), or after its time to live. No clock, no I/O; `RouterCore` calls.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from radixroute.radix.ids import WorkerId
from radixroute.router.errors import BrokenInvariant
from radixroute.router.load_book import BookingId

_Place = tuple[WorkerId, int]


class ExpectedBlocks:
    """Block keys expected on each worker, with the attempts that will make them."""

    def __init__(self, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self._makers: dict[WorkerId, dict[int, set[BookingId]]] = {}
        self._entries: OrderedDict[BookingId, tuple[WorkerId, tuple[int, ...], int]] = OrderedDict()

    def expect(
        self, maker: BookingId, worker_id: WorkerId, keys: Sequence[int], *, now_ns: int
    ) -> None:
        """`keys`: the blocks of its prompt that the worker does not hold yet. O(keys)."""
        if not keys:
            return
        if maker in self._entries:
            raise BrokenInvariant(f"{maker} already has expected blocks")
        self._entries[maker] = (worker_id, tuple(keys), now_ns + self._ttl_ns)
        makers = self._makers.setdefault(worker_id, {})
        for key in keys:
            makers.setdefault(key, set()).add(maker)

    def end(self, maker: BookingId) -> None:
        """Its attempt is over: what was not stored by now will not be. Unknown makers are fine."""
        entry = self._entries.pop(maker, None)
        if entry is not None:
            self._unlink(maker, entry[0], entry[1])

    def stored(self, worker_id: WorkerId, keys: Iterable[int]) -> None:
        """The event came: from now on the index knows."""
        makers = self._makers.get(worker_id)
        if makers:
            for key in keys:
                makers.pop(key, None)
            if not makers:
                del self._makers[worker_id]

    def expire(self, now_ns: int) -> int:
        """Ends expectations past their time; returns how many blocks never showed up."""
        lapsed = 0
        while self._entries:
            maker, (worker_id, keys, end_ns) = next(iter(self._entries.items()))
            if end_ns > now_ns:
                break
            lapsed += self._unlink(maker, worker_id, keys)
            del self._entries[maker]
        return lapsed

    def extra_blocks(self, worker_id: WorkerId, keys: Sequence[int], held: int) -> int:
        """Blocks expected right after the `held` leading ones. Pure; O(result)."""
        makers = self._makers.get(worker_id)
        if not makers:
            return 0
        end = held
        while end < len(keys) and keys[end] in makers:
            end += 1
        return end - held

    def n_blocks(self, worker_id: WorkerId) -> int:
        return len(self._makers.get(worker_id, ()))

    def _unlink(self, maker: BookingId, worker_id: WorkerId, keys: Iterable[int]) -> int:
        makers = self._makers.get(worker_id)
        if makers is None:
            return 0
        unlinked = 0
        for key in keys:
            owners = makers.get(key)
            if owners is not None and maker in owners:
                unlinked += 1
                owners.discard(maker)
                if not owners:
                    del makers[key]
        if not makers:
            del self._makers[worker_id]
        return unlinked

    def check(self) -> None:
        for worker_id, makers in self._makers.items():
            for key, owners in makers.items():
                if not owners:
                    raise BrokenInvariant(f"{worker_id}: block {key} is expected from nobody")
                for owner in owners:
                    if owner not in self._entries or self._entries[owner][0] != worker_id:
                        raise BrokenInvariant(f"{worker_id}: {owner} is over but still expected")
