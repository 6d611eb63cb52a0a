"""Candidates: who may take a request now, and where their numbers stand in columns and overlaps.

Owns the last candidates made, which hold until membership or the index's holders change: a decision
pays nothing for a worker that stays. Never reads loads, speeds or the index itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Holder, Runs, WorkerId
from radixroute.radix.index.contract import Overlaps
from radixroute.request.sampling import SamplingParams
from radixroute.router.messages.inputs import VERBATIM_NEED
from radixroute.router.policy.view import Excluded, Numbers
from radixroute.router.workers.columns import ColumnList
from radixroute.router.workers.members import Member, Members, MemberState

# With fewer live workers than this share left by their breakers, all are tried (Envoy's panic
# threshold): it is more likely that what they are asked is what fails.
PANIC_SHARE = 0.5
# (worker, epoch) that lost a request's session.
Tried = set[tuple[WorkerId, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The eligible workers, in id order."""

    worker_ids: tuple[WorkerId, ...]
    columns: ColumnList
    # Rows MAX_BATCHED, SEATS and ROOM of `columns_layout`, shape (3, workers).
    limits: Numbers
    believed: dict[WorkerId, int]  # position of each whose cache may be believed
    excluded: tuple[Excluded, ...]
    nothing: Runs  # zeros, shape (workers,)
    # Rows of the index's overlaps, those of one worker side by side; what counts for nothing (not
    # joined, not believed) is row 0 times 0.
    rows: NDArray[np.intp]
    weights: Runs
    first_rows: NDArray[np.intp] | None  # where each worker's rows begin; None: one row each

    @property
    def max_batched_tokens(self) -> Numbers:
        """Of each worker; infinite: not known."""
        row: Numbers = self.limits[0]
        return row

    @property
    def room(self) -> Numbers:
        """Requests that each takes, those in its own queue too; infinite: not known."""
        row: Numbers = self.limits[2]
        return row

    def held(self, overlaps: Overlaps) -> Runs:
        """Leading blocks each worker holds: the best of its ranks. O(workers)."""
        if not overlaps.holders:
            return self.nothing
        held: Runs = overlaps.blocks.take(self.rows)
        held *= self.weights
        return held if self.first_rows is None else np.maximum.reduceat(held, self.first_rows)


class CandidateList:
    """Makes candidates for one router."""

    def __init__(self, members: Members, *, needs_events: bool = True) -> None:
        """`needs_events`: what holders hold counts only while their event streams are believed."""
        self._members = members
        self._needs_events = needs_events
        self._last: Candidates | None = None
        self._by_need: dict[str, Candidates] = {}  # made since
        self._served: frozenset[str] = frozenset()  # needs that those who live meet
        self._version = 0
        self._holders: tuple[Holder, ...] = ()

    def serving(self, need: str) -> Candidates:
        """With the holders that the index had when somebody last asked."""
        return self.current(self._holders, set(), need)

    def current(
        self,
        holders: tuple[Holder, ...],
        tried: Tried,
        need: str = "",
        begun: SamplingParams | None = None,
    ) -> Candidates:
        """Those that meet `need`; who is in `tried` is left out while others live. `begun`:
        those that go on with output of another, made by these.

        O(1) unless something changed.
        """
        last = self._last
        if last is None or self._version != self._members.version or self._holders is not holders:
            self._version, self._holders = self._members.version, holders
            last = self._last = self._made(self._live(), self._not_live())
            self._by_need.clear()
            live = (m for m in self._members if m.needs and m.state is MemberState.LIVE)
            self._served = frozenset[str]().union(*(m.needs for m in live))
        if need:
            last = self._serving(need)
        if begun is not None and self._members.had_limited:
            return self._going_on(begun, tried, need)
        return self._without(tried, last, need) if tried else last

    def _serving(self, need: str) -> Candidates:
        if need not in self._served:
            return _NOBODY  # whatever names clients make up, nothing is kept of them
        known = self._by_need.get(need)
        if known is None:
            known = self._made(self._live(need), self._not_live(need))
            self._by_need[need] = known
        return known

    def _going_on(self, begun: SamplingParams, tried: Tried, need: str) -> Candidates:
        live = self._live(need)
        able = [member for member in live if member.goes_on_with(begun)]
        untried = [m for m in able if (m.spec.worker_id, m.epoch) not in tried]
        chosen = untried or able
        unable = [
            Excluded(m.spec.worker_id, "it cannot go on with this answer, or lost it")
            for m in live
            if m not in chosen
        ]
        return self._made(chosen, [*self._not_live(need), *unable])

    def _without(self, tried: Tried, everybody: Candidates, need: str) -> Candidates:
        live = self._live(need)
        untried = [m for m in live if (m.spec.worker_id, m.epoch) not in tried]
        if not untried or len(untried) == len(live):
            # Only sessions that were opened again are left: better one of them than no answer.
            return everybody
        again = [m.spec.worker_id for m in live if m not in untried]
        lost = [Excluded(w, "this request lost its session there") for w in again]
        return self._made(untried, [*self._not_live(need), *lost])

    def _made(self, eligible: Sequence[Member], excluded: Sequence[Excluded]) -> Candidates:
        return _candidates(eligible, excluded, self._holders, needs_events=self._needs_events)

    def _live(self, need: str = "") -> list[Member]:
        """Who may be chosen. With most breakers open it is the breakers that are not believed."""
        live = [member for member in self._members if member.state is MemberState.LIVE]
        if need:
            live = [member for member in live if member.serves(need)]
        closed = [member for member in live if not member.ejected_until_ns]
        trusted = closed if len(closed) >= PANIC_SHARE * len(live) else live
        return [member for member in trusted if not member.is_full]

    def _not_live(self, need: str = "") -> list[Excluded]:
        chosen = {member.spec.worker_id for member in self._live(need)}
        return [
            Excluded(member.spec.worker_id, _why_not(member, need))
            for member in self._members
            if member.spec.worker_id not in chosen
        ]


def _why_not(member: Member, need: str) -> str:
    if member.state is not MemberState.LIVE:
        return f"it is {member.state.value}"
    if not member.serves(need):
        adapter = need.removeprefix(VERBATIM_NEED)
        if member.serves(adapter):
            return "it takes no requests as clients wrote them"
        return f"it does not serve the adapter {adapter!r}"
    return "it sends requests back: it is full" if member.is_full else "it failed too many requests"


def _candidates(
    eligible: Sequence[Member],
    excluded: Sequence[Excluded],
    holders: tuple[Holder, ...],
    *,
    needs_events: bool,
) -> Candidates:
    row_by_holder = {holder: row for row, holder in enumerate(holders)}
    rows: list[int] = []
    weights: list[bool] = []
    first_rows: list[int] = []
    for member in eligible:
        first_rows.append(len(rows))
        for rank in range(member.ranks):
            row = row_by_holder.get(Holder(member.spec.worker_id, rank))
            rows.append(row or 0)
            weights.append(row is not None and (member.is_believed or not needs_events))
    nothing = np.zeros(len(eligible), np.int32)
    nothing.setflags(write=False)
    limits = np.array(
        [
            [member.max_batched_tokens or inf for member in eligible],
            [member.max_num_seqs or inf for member in eligible],
            [member.room or inf for member in eligible],
        ],
        np.float64,
    )
    limits.setflags(write=False)
    return Candidates(
        worker_ids=tuple(member.spec.worker_id for member in eligible),
        columns=np.array([member.column for member in eligible], np.intp),
        limits=limits,
        believed={
            m.spec.worker_id: position for position, m in enumerate(eligible) if m.is_believed
        },
        excluded=tuple(excluded),
        nothing=nothing,
        rows=np.array(rows, np.intp),
        weights=np.array(weights, np.int32),
        first_rows=None if len(rows) == len(eligible) else np.array(first_rows, np.intp),
    )


_NOBODY: Final = _candidates((), (), (), needs_events=False)
