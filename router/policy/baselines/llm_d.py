"""llm-d's weighted scorers (`llm-d/llm-d-inference-scheduler`, chart defaults, late 2026).

    score = 3 * prefix + 2 * queue + 2 * KV use, each in 0..1; the highest goes

so the cost is what is missing from it. Queue and KV use are those known here: requests in flight
for both.
"""

import numpy as np

from radixroute.router.policy.formula.at_once import published
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Scores, View


def scores(view: View) -> Scores:
    load = view.in_flight
    low, high = np.minimum.reduce(load), np.maximum.reduce(load)
    spread = (load - low) / (high - low) if high > low else np.zeros_like(load)
    missed = 1.0 - (view.prompt_tokens - view.uncached_tokens) / max(1, view.prompt_tokens)
    return Scores(
        ("prefix", "queue", "kv_use"),
        ("score",) * 3,
        np.stack((3.0 * missed, 2.0 * spread, 2.0 * spread)),
    )


POLICIES: dict[str, PolicyFactory] = {"llm_d": published(scores)}
