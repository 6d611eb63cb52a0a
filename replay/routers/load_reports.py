"""Load reports: what each worker of a simulated fleet says of its requests in a heartbeat.

Owns who is at which worker and for which router, and when the next heartbeat is. As a live worker
does, one tells what its scheduler had seen when its last step ended: whoever came since is in no
report yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from radixroute.events.wire.records import LoadReport, SessionLoad
from radixroute.radix.ids import Numbers
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.simulated_fleet import FleetStep, SimulatedFleet

_NS_PER_MS: Final = 1e6

# Who hears of a step: a router, whether it heard of those before, and its own requests' items.
Told: TypeAlias = tuple[int, bool, Sequence[tuple[int, int]]]


@dataclass(slots=True)
class _There:
    """One request at a worker."""

    router: int
    seq: int  # of its dispatch, among those of its router to this worker
    likely_cached: int  # prompt tokens; counts until it is admitted
    is_seen: bool = False  # its scheduler had it when a step ended


@dataclass(slots=True)
class _Worker:
    requests: dict[int, _There] = field(default_factory=dict)  # in the order in which they came
    seen: list[int] = field(default_factory=list)  # the highest dispatch seen, by router
    was_busy: bool = False  # at the last heartbeat


class LoadReports:
    """Of all workers, for several routers."""

    def __init__(self, fleet: SimulatedFleet, router_ids: list[str], heartbeat_ms: float) -> None:
        self._fleet = fleet
        self._router_ids = router_ids
        n = fleet.shape.workers
        self._workers = [_Worker(seen=[0] * len(router_ids)) for _ in range(n)]
        self._gap_ns = (
            heartbeat_ms * _NS_PER_MS / n
        )  # between those of two workers: they take turns
        self._n_beats = 0
        self._decoding = np.zeros((n, len(router_ids)), np.int64)  # requests with a first token

    @property
    def due_ns(self) -> int:
        """When the next heartbeat comes."""
        return round(self._n_beats * self._gap_ns)

    def beat(self) -> tuple[int, LoadReport | None]:
        """The worker whose turn it is and what it says; None: nothing that it has not said."""
        worker = self._n_beats % len(self._workers)
        self._n_beats += 1
        entry = self._workers[worker]
        was_busy, entry.was_busy = entry.was_busy, bool(entry.requests)
        return worker, self._report(worker) if entry.requests or was_busy else None

    def came(self, request: int, worker: int, router: int, seq: int, likely_cached: int) -> None:
        self._workers[worker].requests[request] = _There(router, seq, likely_cached)

    def ended(self, request: int, worker: int) -> None:
        entry = self._workers[worker]
        gone = entry.requests.pop(request)
        entry.seen[gone.router] = max(entry.seen[gone.router], gone.seq)

    def began_anew(self, worker: int) -> None:
        """Its sessions are over with all that was there; new ones have seen nothing."""
        self._workers[worker] = _Worker(seen=[0] * len(self._router_ids))
        self._decoding[worker] = 0

    # -- who hears of a step: a worker tells a router of those that gave its requests something

    def heard_by(self, router: int) -> Numbers:
        """Workers where some request of this router decodes."""
        return np.flatnonzero(self._decoding[:, router])

    def listeners(self, step: FleetStep, router_of: list[int]) -> list[Told]:
        """Routers that hear of this step, whether they heard of those before it that only decoded,
        and their own requests' items. To be asked once for each step."""
        decoding = self._decoding[step.worker]
        told: dict[int, tuple[bool, list[tuple[int, int]]]] = {
            int(router): (True, []) for router in np.flatnonzero(decoding)
        }
        for request, kind in step.items:
            router = router_of[request]
            told.setdefault(router, (False, []))[1].append((request, kind))
            decoding[router] += bool(kind & at.FIRST_TOKEN) - bool(kind & at.LAST_TOKEN)
        return [(router, told[router][0], told[router][1]) for router in sorted(told)]

    def _report(self, worker: int) -> LoadReport:
        fleet, entry = self._fleet, self._workers[worker]
        row = fleet.workers[worker]
        n_routers = len(self._router_ids)
        in_flight, queued = [0] * n_routers, [0] * n_routers
        there = list(entry.requests)
        rows = fleet.requests[there]
        # The scheduler takes in who came when a step begins, and its report is made when that ends.
        step_ns = int(row[at.STEP_START]) if row[at.STEP_END] >= 0 else fleet.now_ns
        known = rows[:, at.PROMPT] + rows[:, at.GENERATED]
        left = np.where(
            (rows[:, at.GENERATED] > 0) & (known - rows[:, at.COMPUTED] == 1),
            0,
            known - rows[:, at.COMPUTED],
        ).tolist()
        waits = (rows[:, at.CACHED] < 0).tolist()
        taken_in = np.where(waits, rows[:, at.ARRIVED_NS], rows[:, at.ADMITTED_NS]).tolist()
        for i, request in enumerate(there):
            one = entry.requests[request]
            one.is_seen = one.is_seen or taken_in[i] < step_ns
            if not one.is_seen:
                continue
            in_flight[one.router] += 1
            queued[one.router] += max(0, left[i] - (one.likely_cached if waits[i] else 0))
            entry.seen[one.router] = max(entry.seen[one.router], one.seq)
        blocks = fleet.shape.caches[worker]
        return LoadReport(
            step_age_ms=0.0,
            kv_blocks_total=blocks,
            kv_blocks_used=blocks - int(row[at.N_FREE]),
            sessions=tuple(
                SessionLoad(router_id, entry.seen[n], in_flight[n], queued[n], 0)
                for n, router_id in enumerate(self._router_ids)
            ),
        )
