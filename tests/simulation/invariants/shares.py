"""Workers that are alike have about as much to do, where prompts share nothing."""

from collections import Counter
from typing import TYPE_CHECKING

from radixroute.router.messages.actions import Action, Dispatch

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

_ENOUGH = 30  # requests a worker, in the mean: fewer may be chance


class Shares:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._given = Counter[str](dict.fromkeys(watchers.world.workers, 0))

    def acted(self, action: Action) -> None:
        if isinstance(action, Dispatch):
            self._given[action.worker_id] += 1

    def end(self) -> None:
        given, n_workers = self._given, len(self._given)
        if not self._watchers.world.plan.is_even or given.total() < _ENOUGH * n_workers:
            return
        mean = given.total() / n_workers
        text = f"{dict(given)}: somebody gets less than half of the mean"
        self._watchers.claim("shares", min(given.values()) >= mean / 2, text)
