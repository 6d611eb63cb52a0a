"""Slots: a small number for each listed worker, and columns of numbers that a decision reads by it.

Owns which worker has which slot. A column's numbers belong to whoever asked for it: only that part
writes them, and everybody may take copies. No clock, no I/O.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import WorkerId
from radixroute.router.errors import BrokenInvariant

# Shape (quantities, workers).
Table: TypeAlias = NDArray[np.float64]
SlotList: TypeAlias = NDArray[np.intp]
FIRST_CAPACITY = 8


class Columns:
    """Some quantities of every worker; each has the same value wherever none was written."""

    def __init__(self, unset: tuple[float, ...], capacity: int) -> None:
        self._unset = unset
        self.table = _filled(unset, capacity)  # another one after growth; only the owner writes

    @property
    def capacity(self) -> int:
        return int(self.table.shape[1])

    def write(self, slot: int, *values: float) -> None:
        """One value for each quantity. O(quantities)."""
        table = self.table
        for row, value in enumerate(values):
            table[row, slot] = value

    def unset(self, slot: int) -> None:
        self.write(slot, *self._unset)

    def take(self, slots: SlotList) -> Table:
        """A read-only copy in the order of `slots`: what was decided from does not change later."""
        taken: Table = self.table.take(slots, 1)
        taken.setflags(write=False)
        return taken

    def of(self, slot: int) -> tuple[float, ...]:
        return tuple(self.table[:, slot].tolist())

    def grow(self) -> None:
        """To twice the capacity. Only `Slots` calls."""
        self.table = np.hstack([self.table, _filled(self._unset, self.capacity)])


class Slots:
    """The slots of one router's listed workers."""

    def __init__(self) -> None:
        self._by_worker: dict[WorkerId, int] = {}
        self._free: list[int] = []
        self._capacity = FIRST_CAPACITY
        self._columns: list[Columns] = []

    def columns(self, *unset: float) -> Columns:
        """Columns for one part of the router; they grow with the number of workers."""
        made = Columns(unset, self._capacity)
        self._columns.append(made)
        return made

    def give(self, worker_id: WorkerId) -> int:
        """A slot that nobody has now; whoever left it has unset its numbers."""
        if worker_id in self._by_worker:
            raise BrokenInvariant(f"worker {worker_id} has a slot already")
        slot = self._free.pop() if self._free else len(self._by_worker)
        if slot == self._capacity:
            self._capacity *= 2
            for columns in self._columns:
                columns.grow()
        self._by_worker[worker_id] = slot
        return slot

    def take_back(self, worker_id: WorkerId) -> None:
        self._free.append(self._by_worker.pop(worker_id))

    def of(self, worker_id: WorkerId) -> int:
        """Raises `BrokenInvariant` for a worker that is not listed."""
        slot = self._by_worker.get(worker_id)
        if slot is None:
            raise BrokenInvariant(f"worker {worker_id} is not listed")
        return slot

    def check(self) -> None:
        taken = [*self._by_worker.values(), *self._free]
        if sorted(taken) != list(range(len(taken))):
            raise BrokenInvariant("a slot is lost or shared")


def _filled(values: tuple[float, ...], capacity: int) -> Table:
    return np.repeat(np.array(values, np.float64)[:, None], capacity, axis=1)
