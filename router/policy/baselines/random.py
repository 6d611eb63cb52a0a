"""Random: any worker, all alike."""

from radixroute.router.policy.baselines.least_loaded import load_scores
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Choice, View


def pick(view: View) -> Choice:
    chosen = view.draw % len(view.worker_ids)
    return Choice(chosen, "Drawn at random.", load_scores(view))


POLICIES: dict[str, PolicyFactory] = {"random": lambda parts: AtOnce(parts, pick)}
