"""Expected blocks: what a worker will hold soon because a prompt was just sent there.

Owns these expectations. Without them a burst of one cold prefix would scatter: until the first
stored event arrives nobody seems to hold it. An expectation ends with the stored event, with its
attempt (settle, abort), or after its time to live. Keys are chained: two prompts with the same key
at one place are the same up to there. No clock, no I/O; `RouterCore` calls.

    blocks of a prompt   0 ........ start ........ end
                         held there  | expected   |      `start` moves on with each stored event
"""

from collections import OrderedDict
from collections.abc import Mapping

import msgspec
import numpy as np

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys, Runs, WorkerId
from radixroute.router.workers.load import BookingId

_FIRST_CAPACITY = 64


class _Entry(msgspec.Struct, eq=False):
    """What one attempt will make. Only `ExpectedBlocks` changes it."""

    maker: BookingId
    worker_id: WorkerId
    keys: Keys  # of the whole prompt
    start: int
    end: int
    end_ns: int
    row: int  # in the table of next keys

    @property
    def next_key(self) -> int:
        return int(self.keys[self.start])


class ExpectedBlocks:
    """Block keys expected on each worker, with the attempts that will make them."""

    def __init__(self, ttl_ns: int) -> None:
        self._ttl_ns = ttl_ns
        self._entries: OrderedDict[BookingId, _Entry] = OrderedDict()  # oldest first
        self._by_worker: dict[WorkerId, dict[BookingId, _Entry]] = {}
        # For each entry its `start` and the key there, side by side: one comparison finds those
        # that a prompt can meet. Rows are in no order.
        self._rows: list[_Entry] = []
        self._starts = np.zeros(_FIRST_CAPACITY, np.intp)
        self._next_keys = np.zeros(_FIRST_CAPACITY, np.uint64)

    def expect(
        self, maker: BookingId, worker_id: WorkerId, keys: Keys, *, start: int, now_ns: int
    ) -> None:
        """`keys`: of its whole prompt, of which the worker holds `start` leading blocks. O(1)."""
        if start >= len(keys):
            return
        if maker in self._entries:
            raise BrokenInvariant(f"{maker} already has expected blocks")
        end_ns = now_ns + self._ttl_ns
        entry = _Entry(maker, worker_id, keys, start, len(keys), end_ns, len(self._rows))
        self._entries[maker] = entry
        self._by_worker.setdefault(worker_id, {})[maker] = entry
        self._rows.append(entry)
        if len(self._rows) > len(self._starts):
            self._starts = np.concatenate([self._starts, self._starts])
            self._next_keys = np.concatenate([self._next_keys, self._next_keys])
        self._write_row(entry)

    def end(self, maker: BookingId) -> None:
        """Its attempt is over: what was not stored by now will not be. Unknown makers are fine."""
        entry = self._entries.get(maker)
        if entry is not None:
            self._drop(entry)

    def stored(self, worker_id: WorkerId, keys: Keys) -> int:
        """The event came: from now on the index knows. O(keys) if anything is expected there.

        Events of a prompt come in its order: blocks after a gap stay expected with the gap. Returns
        how many of these were expected.
        """
        entries = self._by_worker.get(worker_id)
        if not entries:
            return 0
        most = 0
        for entry in list(entries.values()):
            is_next = keys == entry.keys[entry.start]
            place = int(is_next.argmax()) if len(keys) else 0
            if len(keys) and is_next[place]:
                n_common = _common(entry.keys[entry.start : entry.end], keys[place:])
                self._advance(entry, n_common)
                most = max(most, n_common)
        return most

    def expire(self, now_ns: int) -> int:
        """Ends expectations past their time; returns how many blocks never showed up."""
        lapsed = 0
        while self._entries:
            entry = next(iter(self._entries.values()))
            if entry.end_ns > now_ns:
                break
            lapsed += entry.end - entry.start
            self._drop(entry)
        return lapsed

    def extra_blocks(
        self, keys: Keys, held: Runs, position_by_worker: Mapping[WorkerId, int]
    ) -> Runs | None:
        """Blocks expected right after the `held` leading ones, for each position; None: nowhere.

        Pure. O(entries) in one comparison, and O(blocks) for each entry the prompt meets.
        """
        extra = None
        # By start: whatever an entry reaches, one that starts earlier cannot go on from there.
        for entry in sorted(self._met_by(keys), key=lambda entry: entry.start):
            position = position_by_worker.get(entry.worker_id)
            if position is None:
                continue
            if extra is None:
                extra = np.zeros_like(held)
            reach = int(held[position]) + int(extra[position])
            if entry.start <= reach < entry.end:
                extra[position] += _common(entry.keys[reach : entry.end], keys[reach:])
        return extra

    def expects(self, worker_id: WorkerId) -> bool:
        return worker_id in self._by_worker

    def n_blocks(self, worker_id: WorkerId) -> int:
        """Blocks not stored yet, of each maker."""
        entries = self._by_worker.get(worker_id, {})
        return sum(entry.end - entry.start for entry in entries.values())

    def check(self) -> None:
        filed = [entry for entries in self._by_worker.values() for entry in entries.values()]
        if not len(filed) == len(self._entries) == len(self._rows):
            raise BrokenInvariant("expected blocks: an entry is filed twice or not at all")
        for maker, entry in self._entries.items():
            if self._by_worker[entry.worker_id].get(maker) is not entry or entry.maker != maker:
                raise BrokenInvariant(f"{maker} is expected on another worker")
            if not 0 <= entry.start < entry.end <= len(entry.keys):
                raise BrokenInvariant(f"{maker} expects no block")
            row = (int(self._starts[entry.row]), int(self._next_keys[entry.row]))
            if self._rows[entry.row] is not entry or row != (entry.start, entry.next_key):
                raise BrokenInvariant(f"{maker}: its row differs from it")

    def _met_by(self, keys: Keys) -> list[_Entry]:
        """Entries whose next block is one of this prompt's: no other can add to it."""
        n = len(self._rows)
        if not n or not len(keys):
            return []
        is_met = keys.take(self._starts[:n], mode="clip") == self._next_keys[:n]
        return [self._rows[row] for row in is_met.nonzero()[0].tolist()]

    def _advance(self, entry: _Entry, n_blocks: int) -> None:
        entry.start += n_blocks
        if entry.start == entry.end:
            self._drop(entry)
        else:
            self._write_row(entry)

    def _write_row(self, entry: _Entry) -> None:
        self._starts[entry.row] = entry.start
        self._next_keys[entry.row] = entry.keys[entry.start]

    def _drop(self, entry: _Entry) -> None:
        del self._entries[entry.maker]
        entries = self._by_worker[entry.worker_id]
        del entries[entry.maker]
        if not entries:
            del self._by_worker[entry.worker_id]
        last = self._rows.pop()
        if last is not entry:
            last.row = entry.row
            self._rows[last.row] = last
            self._write_row(last)


def _common(some: Keys, others: Keys) -> int:
    """Leading blocks that are the same. One comparison of all beats ten probes from Python."""
    n = min(len(some), len(others))
    differs = some[:n] != others[:n]
    first = int(differs.argmax()) if n else 0
    return first if n and differs[first] else n
