"""Scores of the radix policy: expected time to first token and the harm done, in milliseconds.

Pure. Each term is named and has a unit, so that `explain` can print why. Not a mix of unitless
weights: everything is the worker's own milliseconds, learned from its reported steps. The
arithmetic is in `cost_kernels`; the tests hold it equal to the same worker by worker.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from radixroute.router.policy.radix.replicas import longest_held
from radixroute.router.policy.radix.weights import WEIGHTS, Weights
from radixroute.router.policy.view import Scores, View

if TYPE_CHECKING:
    from radixroute.router.policy.radix.cost_kernels import Usual as Usual
else:
    Usual = object  # importing kernels compiles them

NAMES = ("queue", "prefill", "steps", "compute", "slow_down", "turnover", "replica")
UNITS = ("ms",) * len(NAMES)


class Terms(NamedTuple):
    """What the radix policy adds to a view."""

    output_tokens: float  # expected
    replica_ms: float = 0.0  # that one more copy of the longest cached prefix may cost
    followers: float = 0.0  # that it brings to its worker
    mean_prefill_ms: float = 0.0  # of all requests, lately
    compute: float = WEIGHTS.compute  # what a millisecond of it costs those who come next


@cache
def kernels() -> Any:
    """`radix.cost_kernels`, at first use: numba takes 0.5 s to import."""
    from radixroute.router.policy.radix import cost_kernels as kernels

    return kernels


def radix_scores(view: View, weights: Weights = WEIGHTS) -> Scores:
    """O(workers)."""
    return scored(view, weights)[0]


def scored(view: View, weights: Weights = WEIGHTS) -> tuple[Scores, float]:
    """With the lowest cost if all held what the best holder does."""
    own: Terms = view.own
    terms = np.empty((len(NAMES), len(view.worker_ids)))
    usual = kernels().Usual(
        block_size=float(view.block_size),
        lead_ms=0.0,
        mean_wait_ms=0.0,
        mean_prefill_ms=own.mean_prefill_ms,
        compute=own.compute,
        weights=weights,
    )
    least = kernels().score(
        float(view.prompt_tokens),
        own.output_tokens,
        view.overlap_blocks,
        longest_held(view.held_blocks),
        view.table,
        usual,
        own.replica_ms,
        own.followers,
        terms,
        np.empty(len(NAMES)),
    )
    terms.setflags(write=False)
    return Scores(NAMES, UNITS, terms), least
