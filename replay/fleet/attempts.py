"""Attempts: what requests had of workers that died under them; the rest of each is a new request.

Owns what the earlier attempts gave. The fleet's table of requests has the last attempt only, in
which what was put out before counts as prompt, as in an `EngineRequest` that resumes.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.tables import UNSET

_ZERO = (at.COMPUTED, at.GENERATED, at.N_CHAINED, at.STEP_TOKENS, at.RECOMPUTED, at.LOST)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """All attempts of one request so far, as one."""

    worker: int  # of the first attempt that was admitted, as the next two; -1: none was
    admitted_ns: int
    cached: int
    first_ns: int  # first token of all; -1: none yet
    recomputed: int
    computed: int  # tokens, when the last admitted attempt was cut off
    emitted: int  # output tokens


class EarlierAttempts:
    """Of all requests of one fleet."""

    def __init__(self, requests: Numbers) -> None:
        """`requests`: the fleet's table; rows of who is cut off change."""
        self._requests = requests
        self._by_request: dict[int, _Earlier] = {}
        self.n_cut_off = 0

    def cut_off(self, worker: int) -> list[tuple[int, int]]:
        """What waits or runs on this worker is nobody's now, as if it had never been sent; by
        number, with the tokens each had put out in all. O(requests)."""
        rows = self._requests
        is_there = (rows[:, at.STATE] == at.WAITING) | (rows[:, at.STATE] == at.RUNNING)
        lost: list[int] = np.flatnonzero(is_there & (rows[:, at.WORKER] == worker)).tolist()
        for request in lost:
            row = rows[request]
            self._by_request[request] = self._together(request, row)
            row[at.PROMPT] += row[at.GENERATED]
            row[at.OUTPUT] -= row[at.GENERATED]
            row[[*_ZERO]] = 0
            row[[*UNSET]] = -1
            row[at.STATE] = at.UNSENT
        self.n_cut_off += len(lost)
        return [(request, self._by_request[request].emitted) for request in lost]

    def exchange(self, requests: Numbers) -> None:
        """The fleet's table is another one, with the same rows and more."""
        self._requests = requests

    def forget(self, request: int) -> None:
        """Its number will be another's."""
        self._by_request.pop(request, None)

    def was_admitted(self, request: int) -> bool:
        """In an earlier attempt."""
        earlier = self._by_request.get(request)
        return earlier is not None and earlier.worker >= 0

    def outcome(self, request: int) -> Numbers:
        """Its row with all its attempts as one. To read only."""
        row: Numbers = self._requests[request]
        if request not in self._by_request:
            return row
        row = row.copy()
        self._merge(request, row)
        return row

    def outcomes(self) -> Numbers:
        """The table with all attempts of a request as one: who admitted it first, its first token,
        its last, and every token computed twice. To read only."""
        if not self._by_request:
            return self._requests
        rows = self._requests.copy()
        for request in self._by_request:
            self._merge(request, rows[request])
        return rows

    def _merge(self, request: int, row: Numbers) -> None:
        whole = self._together(request, self._requests[request])
        row[at.WORKER], row[at.ADMITTED_NS] = whole.worker, whole.admitted_ns
        row[at.CACHED], row[at.FIRST_NS] = whole.cached, whole.first_ns
        row[at.RECOMPUTED] = whole.recomputed

    def _together(self, request: int, row: Numbers) -> _Earlier:
        """Earlier attempts and the one of this row."""
        now = _attempt(row)
        before = self._by_request.get(request)
        if before is None:
            return now
        again = max(0, before.computed - now.cached) if now.worker >= 0 else 0
        first = before if before.worker >= 0 else now
        return _Earlier(
            first.worker,
            first.admitted_ns,
            first.cached,
            before.first_ns if before.first_ns >= 0 else now.first_ns,
            before.recomputed + now.recomputed + again,
            now.computed if now.worker >= 0 else before.computed,
            before.emitted + now.emitted,
        )


def _attempt(row: Numbers) -> _Earlier:
    cached, first_ns, admitted_ns = (int(row[i]) for i in (at.CACHED, at.FIRST_NS, at.ADMITTED_NS))
    # Who was preempted and waits has nothing now.
    waits_again = row[at.STATE] == at.WAITING
    return _Earlier(
        int(row[at.WORKER]) if cached >= 0 else -1,
        admitted_ns,
        cached,
        first_ns,
        int(row[at.RECOMPUTED]),
        int(row[at.LOST] if waits_again else row[at.COMPUTED]),
        int(row[at.GENERATED]),
    )
