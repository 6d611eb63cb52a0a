"""LMetric (arXiv 2603.15202): one product, no weights.

    cost = uncached prompt tokens if routed there * that worker's current batch size

The lowest goes; ties at random. The batch has the request itself in it, so that an idle worker's
cost is the tokens it would compute.
"""

from radixroute.router.policy.formula.at_once import published
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Scores, View


def scores(view: View) -> Scores:
    cost = view.uncached_tokens * (view.in_flight + 1.0)
    return Scores(("work",), ("tokens * requests",), cost[None, :])


POLICIES: dict[str, PolicyFactory] = {"lmetric": published(scores)}
