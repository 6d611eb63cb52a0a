"""Columns: where each listed worker's numbers stand in the tables that a decision reads.

Owns which worker has which column. A table belongs to whoever asked for it: only that part writes
its numbers, and everybody may take copies. No clock, no I/O.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId

# Shape (quantities, workers).
Numbers: TypeAlias = NDArray[np.float64]
ColumnList: TypeAlias = NDArray[np.intp]
FIRST_CAPACITY = 8


class Table:
    """Some quantities of every worker; each has the same value wherever none was written."""

    def __init__(self, unset: tuple[float, ...], capacity: int) -> None:
        self._unset = unset
        self.numbers = _filled(unset, capacity)  # another one after growth; only the owner writes

    @property
    def capacity(self) -> int:
        return int(self.numbers.shape[1])

    def write(self, column: int, *values: float) -> None:
        """One value for each quantity. O(quantities)."""
        numbers = self.numbers
        for row, value in enumerate(values):
            numbers[row, column] = value

    def unset(self, column: int) -> None:
        self.write(column, *self._unset)

    def take(self, columns: ColumnList) -> Numbers:
        """A read-only copy in the order of `columns`: what a decision saw does not change later."""
        taken: Numbers = self.numbers.take(columns, 1)
        taken.setflags(write=False)
        return taken

    def of(self, column: int) -> tuple[float, ...]:
        return tuple(self.numbers[:, column].tolist())

    def grow(self) -> None:
        """To twice the capacity. Only `WorkerColumns` calls."""
        self.numbers = np.hstack([self.numbers, _filled(self._unset, self.capacity)])


class WorkerColumns:
    """The columns of one router's listed workers."""

    def __init__(self) -> None:
        self._by_worker: dict[WorkerId, int] = {}
        self._free: list[int] = []
        self._capacity = FIRST_CAPACITY
        self._tables: list[Table] = []

    def table(self, *unset: float) -> Table:
        """A table for one part of the router; it grows with the number of workers."""
        made = Table(unset, self._capacity)
        self._tables.append(made)
        return made

    def give(self, worker_id: WorkerId) -> int:
        """A column that nobody has now; whoever left it has unset its numbers."""
        if worker_id in self._by_worker:
            raise BrokenInvariant(f"worker {worker_id} has a column already")
        column = self._free.pop() if self._free else len(self._by_worker)
        if column == self._capacity:
            self._capacity *= 2
            for table in self._tables:
                table.grow()
        self._by_worker[worker_id] = column
        return column

    def take_back(self, worker_id: WorkerId) -> None:
        self._free.append(self._by_worker.pop(worker_id))

    def of(self, worker_id: WorkerId) -> int:
        """Raises `BrokenInvariant` for a worker that is not listed."""
        column = self._by_worker.get(worker_id)
        if column is None:
            raise BrokenInvariant(f"worker {worker_id} is not listed")
        return column

    @property
    def given(self) -> list[int]:
        """Columns of the listed workers."""
        return list(self._by_worker.values())

    def check(self) -> None:
        taken = [*self._by_worker.values(), *self._free]
        if sorted(taken) != list(range(len(taken))):
            raise BrokenInvariant("a column is lost or shared")


def _filled(values: tuple[float, ...], capacity: int) -> Numbers:
    return np.repeat(np.array(values, np.float64)[:, None], capacity, axis=1)
