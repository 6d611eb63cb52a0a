"""A load gradient, the idea of PolyServe (Zhu et al., arXiv 2507.17769): the busiest worker that
still meets both goals, so that the least busy ones fall idle and could be taken away.

    first token:     queue + prefill + decoding beside it    <= TTFT_GOAL_MS
    between tokens:  a step with all who are there and this  <= ITL_GOAL_MS
    of those who meet both the most requests in flight; where nobody does, the soonest first token

The paper serves requests of several goals, each kind on a part of the fleet of its own, and has
workers added and removed. Chosen here: one fleet and one pair of goals, which are ours, the learned
speeds in place of profiles, load as requests in flight, and no look at what a batch will have grown
to. The paper routes without caches; here what is cached counts in the first token, which also
decides between workers that are as busy.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.forecast import cheapest, expected_ttfts_ms
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import PolicyFactory
from radixroute.router.policy.view import Choice, Numbers, Scores, View

TTFT_GOAL_MS = 1000.0
ITL_GOAL_MS = 50.0
_GATE = 1e12  # more than any load: who would miss a goal


def pick(view: View) -> Choice:
    """A fixed number of array operations. The order of the totals is the rule's."""
    ttfts = expected_ttfts_ms(view)
    meets = _meets(view, ttfts)
    terms = np.zeros((3, len(ttfts)))
    misses, less_busy, first_token = terms
    first_token[:] = ttfts / TTFT_GOAL_MS
    if meets.any():
        busiest = np.maximum.reduce(view.in_flight[meets])
        misses[~meets] = _GATE
        less_busy[:] = np.where(meets, busiest - view.in_flight, 0.0)
        first_token *= 0.5  # below one request
        reason = "Of those who meet both goals nobody is busier."
    else:
        reason = "Nobody would meet both goals: here the first token comes soonest."
    units = ("gate", "requests", "of the goal")
    scores = Scores(("misses_goal", "less_busy", "first_token"), units, terms)
    return Choice(cheapest(scores.totals, view.draw), reason, scores)


def _meets(view: View, ttfts: Numbers) -> NDArray[np.bool_]:
    """Who meets both goals."""
    table = view.table
    step_ms = table[at.STEP_BASE_MS] + table[at.MS_PER_DECODE] * (view.in_flight + 1.0)
    met: NDArray[np.bool_] = (ttfts <= TTFT_GOAL_MS) & (step_ms <= ITL_GOAL_MS)
    return met


POLICIES: dict[str, PolicyFactory] = {"load_gradient": lambda parts: AtOnce(parts, pick)}
