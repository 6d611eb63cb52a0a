"""Least loaded: the worker with the fewest requests in flight; ties at random."""

from radixroute.router.policy.formula.at_once import AtOnce, lowest
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Scores, View


def load_scores(view: View) -> Scores:
    """Requests in flight."""
    return Scores(("in_flight",), ("requests",), view.in_flight[None, :])


_pick = lowest(load_scores)

POLICIES: dict[str, PolicyFactory] = {"least_loaded": lambda parts: AtOnce(parts, _pick)}
