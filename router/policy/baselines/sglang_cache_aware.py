"""SGLang's gateway, cache_aware with events (`sgl-project/sglang`, `sgl-model-gateway`, late 2026).

Longest overlap, unless that one is overloaded. No overlap anywhere, or the choice has more than 1.5
times the mean load and 64 requests above it: least load. Ties of overlap go to the lower load. The
rule is no sum: its terms are built so that the order of the totals is the rule's.
"""

import numpy as np

from radixroute.router.policy.formula.at_once import published
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Scores, View

_GATE = 1e12  # more than any load: what the rule excludes


def scores(view: View) -> Scores:
    load, overlap = view.in_flight, view.overlap_blocks
    best = np.maximum.reduce(overlap)
    holders = overlap == best
    mean = load.mean()
    least = np.minimum.reduce(np.where(holders, load, np.inf))
    spills = best == 0 or (least > 1.5 * mean and least > mean + 64.0)
    gate = np.zeros_like(load) if spills else np.where(holders, 0.0, _GATE)
    return Scores(("not_longest", "in_flight"), ("gate", "requests"), np.stack((gate, load)))


POLICIES: dict[str, PolicyFactory] = {"sglang_cache_aware": published(scores)}
