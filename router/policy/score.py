"""The radix policy's score of a view: expected time to first token and the harm done, in ms.

Pure. Each term is named and has a unit, so that `explain` can print why. Not a mix of unitless
weights: everything is the worker's own milliseconds, learned from its reported steps. The
arithmetic is in `plan_kernels`; the tests hold it equal to the same worker by worker.
"""

from functools import cache
from typing import Any

import numpy as np

from radixroute.router.policy.replicas import longest_held
from radixroute.router.policy.view import Scores, View

NAMES = ("queue", "prefill", "steps", "compute", "slow_down", "turnover", "replica")
UNITS = ("ms",) * len(NAMES)


@cache
def kernels() -> Any:
    """`plan_kernels`, at first use: numba takes 0.5 s to import."""
    from radixroute.router.policy import radix_kernels as plan_kernels

    return plan_kernels


def expected_ttft_ms(view: View, worker: int) -> float:
    """Dispatch to first token, of a request that goes there now."""
    return float(radix_scores(view).terms[:3, worker].sum())


def replica_balance(view: View, worker: int) -> tuple[float, float]:
    """Milliseconds that a request that goes there loses for want of one more copy of its prefix,
    and those that it spends on one: at most one of them is not 0."""
    scores, least = _scored(view)
    spent = -float(scores.terms[-1, worker])
    return (0.0, spent) if spent > 0.0 else (float(scores.totals[worker]) - least, 0.0)


def radix_scores(view: View) -> Scores:
    """O(workers)."""
    return _scored(view)[0]


def _scored(view: View) -> tuple[Scores, float]:
    """With the lowest cost if all held what the best holder does."""
    terms = np.empty((len(NAMES), len(view.worker_ids)))
    one = np.empty(len(NAMES))
    prompt = float(view.prompt_tokens)
    blocks = (view.overlap_blocks, longest_held(view.held_blocks))
    offer = (view.cap, view.replica_ms)
    least = kernels().score(prompt, *blocks, view.table, view.scalars, *offer, terms, one)
    terms.setflags(write=False)
    return Scores(NAMES, UNITS, terms), least
