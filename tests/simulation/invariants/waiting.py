"""Nobody waits past the deadline, while a worker idles, or behind an endless row of later ones."""

from collections import Counter
from typing import TYPE_CHECKING

from radixroute.router.messages.inputs import VERBATIM_NEED
from tests.simulation import adapter
from tests.simulation.agenda import S
from tests.simulation.edge import TICK_NS
from tests.simulation.fleet.life import BEAT_NS
from tests.simulation.ledger import Client

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

# Ticks that a request may wait while a worker that could take it has nothing at all: a plan may
# rather wait for another one, not for longer than that. One whose step does not end counts as busy
# until it is suspected; with one like that, so much longer.
_IDLE_TICKS = 8
_SUSPECTED_TICKS = round((adapter.STUCK_SUSPECT_S * S + 2 * BEAT_NS) / TICK_NS)
_STALLED_MS = 200.0  # no step takes that long
# Later ones of its lane that may go first: the plan's own order. Not counted while a worker stalls.
_OVERTAKEN = 80
_HOPELESS = ("refused", "draining")


class Waiting:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        self._idle: Counter[str] = Counter()  # ticks in a row, by worker
        self._waits: Counter[str] = Counter()  # the same, by request
        self._calm_ticks = 0  # in a row, without a worker whose step does not end
        # When somebody was listed who may have what is needed, or was being started.
        self._hope_ns: Counter[str] = Counter()
        workers = watchers.world.plan.workers
        self._needs = {"", *(name for worker in workers for name in worker.adapters)}
        if any(worker.takes_verbatim for worker in workers):
            self._needs |= {VERBATIM_NEED + name for name in self._needs}

    @property
    def is_stalled(self) -> bool:
        lives = (worker.life for worker in self._world.workers.values())
        return any(life is not None and life.step_age_ms > _STALLED_MS for life in lives)

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
        hopes = [w.worker_id for w in self._watchers.glance.workers if w.state not in _HOPELESS]
        for need in self._needs:
            if any(world.serves(worker, need) for worker in hopes):
                self._hope_ns[need] = world.edge.clock_ns
        self._waits = Counter({c.request_id: self._waits[c.request_id] + 1 for c in waiting})
        self._look_for_idle(waiting)

    def judge_no_workers(self, client: Client) -> None:
        """It fails for want of workers."""
        world, name, need = self._world, client.request_id, client.spec.need
        now_ns, since_ns = world.edge.clock_ns, max(self._hope_ns[need], client.waits_since_ns)
        has_waited = now_ns - since_ns >= adapter.NO_WORKER_WAIT_S * S
        self._watchers.claim("patience", has_waited, f"{name}: no worker, it is said, too soon")
        live = [w.worker_id for w in world.router.glance().workers if w.state == "live"]
        there = [worker for worker in live if world.serves(worker, need)]
        self._watchers.claim("patience", not there, f"{name}: no worker, it is said, but {there}")

    def _look_for_idle(self, waiting) -> None:
        epochs, glance = self._world.ledger.epochs, self._watchers.glance
        self._calm_ticks = 0 if self.is_stalled else self._calm_ticks + 1
        most = _IDLE_TICKS + (_SUSPECTED_TICKS if self._calm_ticks < _IDLE_TICKS else 0)
        live = [seen.worker_id for seen in glance.workers if seen.state == "live"]
        usable = {
            need: self._world.ledger.standing.usable(
                [worker for worker in live if self._world.serves(worker, need)]
            )
            for need in self._needs
        }
        for seen in glance.workers:
            worker = seen.worker_id
            life = self._world.workers[worker].life
            is_idle = seen.state == "live" and not seen.in_flight
            is_idle = is_idle and any(worker in there for there in usable.values())
            is_idle = is_idle and life is not None and not life.engine.requests
            self._idle[worker] = self._idle[worker] + 1 if is_idle else 0
            if self._idle[worker] < most:
                continue
            for client in waiting:
                is_stuck = self._waits[client.request_id] >= most
                may_go = worker in usable[client.spec.need]
                may_go = may_go and (worker, epochs.get(worker, "")) not in client.tried
                text = f"{client.request_id} waits and {worker} idles"
                self._watchers.claim("idle", not (is_stuck and may_go), text)
