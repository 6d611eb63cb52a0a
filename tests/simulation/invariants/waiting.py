"""Nobody waits past the deadline, while a worker idles, or behind an endless row of later ones."""

from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.edge import TICK_NS

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

# Ticks that a request may wait while a worker that could take it has nothing at all: a plan may
# rather wait for another one, not for longer than that.
_IDLE_TICKS = 8
_STALLED_MS = 500.0
# Later requests that may go first.
_OVERTAKEN = 40


class Waiting:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        self._idle: Counter[str] = Counter()  # ticks in a row, by worker
        self._waits: Counter[str] = Counter()  # the same, by request

    def after(self) -> None:
        world, claim = self._world, self._watchers.claim
        if not world.edge.is_tick:
            return
        late_ns = world.edge.clock_ns - 2 * TICK_NS
        waiting = []
        for client in world.ledger.open.values():
            name = client.request_id
            claim("deadline", client.spec.deadline_ns > late_ns, f"{name} outlives its deadline")
            if client.worker is None:
                waiting.append(client)
                is_fair = client.overtaken <= _OVERTAKEN
                claim("overtaking", is_fair, f"{name} waits behind {client.overtaken} later ones")
        self._waits = Counter({c.request_id: self._waits[c.request_id] + 1 for c in waiting})
        self._look_for_idle(waiting)

    def _look_for_idle(self, waiting) -> None:
        epochs, snapshot = self._world.ledger.epochs, self._watchers.snapshot
        is_stalled = any(
            w.state == "live" and w.step_age_ms > _STALLED_MS for w in snapshot.workers
        )
        name = "idle beside a stall" if is_stalled else "idle"
        for seen in snapshot.workers:
            worker = seen.worker_id
            is_idle = seen.state == "live" and not seen.in_flight
            self._idle[worker] = self._idle[worker] + 1 if is_idle else 0
            if self._idle[worker] < _IDLE_TICKS:
                continue
            for client in waiting:
                is_stuck = self._waits[client.request_id] >= _IDLE_TICKS
                may_go = (worker, epochs.get(worker, "")) not in client.tried
                text = f"{client.request_id} waits and {worker} idles"
                self._watchers.claim(name, not (is_stuck and may_go), text)
