"""Power of two: the less loaded of two workers drawn at random (Mitzenmacher 2001)."""

from radixroute.router.policy.baselines.least_loaded import load_scores
from radixroute.router.policy.forecast import cheapest
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Choice, View


def pick(view: View) -> Choice:
    scores = load_scores(view)
    n = len(view.worker_ids)
    if n == 1:
        return Choice(0, "It was the only candidate.", scores)
    first, rest = view.draw % n, view.draw // n
    second = (first + 1 + rest % (n - 1)) % n
    pair = [first, second]
    chosen = pair[cheapest(scores.totals[pair], rest // n)]
    return Choice(
        chosen, "Of two drawn at random the other has no fewer requests in flight.", scores
    )


POLICIES: dict[str, PolicyFactory] = {"power_of_two": lambda parts: AtOnce(parts, pick)}
