"""Roster: who may take a request now, and where their numbers stand in columns and overlaps.

Owns the last roster made, which holds until membership or the index's holders change: a decision
pays nothing for a worker that stays. Never reads loads, speeds or the index itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Holder, Runs, WorkerId
from radixroute.radix.index.contract import Overlaps
from radixroute.router.core.decision_log import Excluded
from radixroute.router.policy.view import Numbers
from radixroute.router.workers.columns import SlotList
from radixroute.router.workers.members import Member, Members, MemberState

# (worker, epoch) that lost a request's session.
Tried = set[tuple[WorkerId, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The eligible workers, in id order."""

    worker_ids: tuple[WorkerId, ...]
    slots: SlotList
    max_batched_tokens: Numbers  # infinite: not told
    believed: dict[WorkerId, int]  # position of each whose cache may be believed
    excluded: tuple[Excluded, ...]
    nothing: Runs  # zeros, shape (workers,)
    # Rows of the index's overlaps, those of one worker side by side; what counts for nothing (not
    # joined, not believed) is row 0 times 0.
    rows: NDArray[np.intp]
    weights: Runs
    first_rows: NDArray[np.intp] | None  # where each worker's rows begin; None: one row each

    def held(self, overlaps: Overlaps) -> Runs:
        """Leading blocks each worker holds: the best of its ranks. O(workers)."""
        if not overlaps.holders:
            return self.nothing
        held: Runs = overlaps.blocks.take(self.rows)
        held *= self.weights
        return held if self.first_rows is None else np.maximum.reduceat(held, self.first_rows)


class Rosters:
    """Makes rosters for one router."""

    def __init__(self, members: Members, *, needs_events: bool = True) -> None:
        """`needs_events`: what holders hold counts only while their event streams are believed."""
        self._members = members
        self._needs_events = needs_events
        self._last: Roster | None = None
        self._version = 0
        self._holders: tuple[Holder, ...] = ()

    @property
    def last_holders(self) -> tuple[Holder, ...]:
        """Of the index when the last roster was made."""
        return self._holders

    def current(self, holders: tuple[Holder, ...], tried: Tried) -> Roster:
        """Those in `tried` are left out while others live. O(1) unless something changed."""
        last = self._last
        if last is None or self._version != self._members.version or self._holders is not holders:
            self._version, self._holders = self._members.version, holders
            last = self._last = self._roster(self._live(), self._not_live())
        return self._without(tried, last) if tried else last

    def _without(self, tried: Tried, everybody: Roster) -> Roster:
        live = self._live()
        untried = [m for m in live if (m.spec.worker_id, m.epoch) not in tried]
        if not untried or len(untried) == len(live):
            # Only sessions that were opened again are left: better one of them than no answer.
            return everybody
        again = [m.spec.worker_id for m in live if m not in untried]
        lost = [Excluded(w, "this request lost its session there") for w in again]
        return self._roster(untried, [*self._not_live(), *lost])

    def _roster(self, eligible: Sequence[Member], excluded: Sequence[Excluded]) -> Roster:
        return _roster(eligible, excluded, self._holders, needs_events=self._needs_events)

    def _live(self) -> list[Member]:
        return [member for member in self._members if member.state is MemberState.LIVE]

    def _not_live(self) -> list[Excluded]:
        return [
            Excluded(member.spec.worker_id, f"it is {member.state.value}")
            for member in self._members
            if member.state is not MemberState.LIVE
        ]


def _roster(
    eligible: Sequence[Member],
    excluded: Sequence[Excluded],
    holders: tuple[Holder, ...],
    *,
    needs_events: bool,
) -> Roster:
    row_by_holder = {holder: row for row, holder in enumerate(holders)}
    rows: list[int] = []
    weights: list[bool] = []
    first_rows: list[int] = []
    for member in eligible:
        first_rows.append(len(rows))
        for rank in range(member.ranks):
            row = row_by_holder.get(Holder(member.spec.worker_id, rank))
            rows.append(row or 0)
            weights.append(row is not None and (member.is_fresh or not needs_events))
    nothing = np.zeros(len(eligible), np.int32)
    nothing.setflags(write=False)
    limits = np.array([member.max_batched_tokens or inf for member in eligible])
    limits.setflags(write=False)
    return Roster(
        worker_ids=tuple(member.spec.worker_id for member in eligible),
        slots=np.array([member.slot for member in eligible], np.intp),
        max_batched_tokens=limits,
        believed={m.spec.worker_id: position for position, m in enumerate(eligible) if m.is_fresh},
        excluded=tuple(excluded),
        nothing=nothing,
        rows=np.array(rows, np.intp),
        weights=np.array(weights, np.int32),
        first_rows=None if len(rows) == len(eligible) else np.array(first_rows, np.intp),
    )
