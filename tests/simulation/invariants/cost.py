"""What an input costs does not grow with how many wait: counted calls, on days on which many do.

An input that gives nobody a worker, with every seat taken before and after, need look at nobody
who waits; any other looks at a bounded front.
"""

from typing import TYPE_CHECKING

from radixroute.router.core.scheduler import FRONT
from radixroute.router.messages.actions import Action, Dispatch, Grant

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

# Calls: of any input, of each action or output in it, and of each request that a front looks at.
_ANY, _EACH, _LOOKED_AT = 500, 150, 80
_MANY = 64  # with fewer waiting, what is made at its first use would show
# Calls that inputs may have saved up: a heap that lost most of its items is made anew now and then.
_SAVED = 2000


class Costs:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        self._n_actions = 0
        self._gives = False
        self._was_full = False
        self._n_waited = 0
        self._saved = _SAVED
        self.most_waited = 0  # at once

    def acted(self, action: Action) -> None:
        self._n_actions += 1
        self._gives = self._gives or isinstance(action, (Dispatch, Grant))

    def after(self) -> None:
        world, meter = self._world, self._world.router.meter
        assert meter is not None
        calls, is_full = meter.take(), self._is_full()
        n_waited, self._n_waited = self._n_waited, world.ledger.n_waiting
        self.most_waited = max(self.most_waited, n_waited)
        most = _ANY + _EACH * (self._n_actions + world.edge.n_reported)
        if self._gives or not (is_full and self._was_full):
            most += _LOOKED_AT * min(FRONT, n_waited + 1)
        if n_waited >= _MANY:
            self._saved = min(_SAVED, self._saved + most - calls)
            text = f"an input makes {calls} calls, not {most}, and {n_waited} wait"
            self._watchers.claim("cost", self._saved >= 0, text)
        self._n_actions, self._gives, self._was_full = 0, False, is_full

    def _is_full(self) -> bool:
        """Whether every worker that is there runs as many as it can."""
        world = self._world
        live = [seen.worker_id for seen in self._watchers.glance.workers if seen.state == "live"]
        booked, workers = world.ledger.booked, world.workers
        return bool(live) and all(booked(w) >= workers[w].plan.seats for w in live)
