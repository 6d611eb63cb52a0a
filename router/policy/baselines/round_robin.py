"""Round robin: each worker in turn."""

from dataclasses import dataclass

from radixroute.router.policy.baselines.least_loaded import load_scores
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import Dispatched, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, View


@dataclass(slots=True)
class Turns:
    """Requests that this policy has dispatched."""

    n: int = 0

    def now(self, ask: Ask, snapshot: Snapshot, view: View) -> int:
        return self.n

    def count(self, dispatched: Dispatched) -> None:
        self.n += 1


def pick(view: View) -> Choice:
    chosen = view.own % len(view.worker_ids)
    return Choice(chosen, "It was this worker's turn.", load_scores(view))


def made(parts: PolicyParts) -> AtOnce:
    turns = Turns()
    return AtOnce(parts, pick, own=turns.now, on_dispatch=turns.count)


POLICIES: dict[str, PolicyFactory] = {"round_robin": made}
