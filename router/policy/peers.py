"""Costs of other routers, as they publish them: baselines to measure against.

Pure. Each is a function from a view to terms whose sum is lowest for the worker their rule takes.
Where a rule is not a sum (gates, tie-breaks by load), its terms are built so that the order of the
totals is the rule's. Sources are named at each; defaults are those of late 2026.
"""

from collections.abc import Callable

import numpy as np

from radixroute.router.policy.view import Numbers, Scores, View

_GATE = 1e12  # more than any load: what a rule excludes


def dynamo(credit: float, prefill_scale: float, request_weight: float) -> Callable[[View], Scores]:
    """NVIDIA Dynamo's cost in blocks (`lib/kv-router`, `scheduling/selector/default.rs`).

    scale * max(0, (active prefill + prompt) / B - credit * overlap)
      + distinct prompt blocks in use there with this prompt's + weight * active requests
    Defaults 1, 1, 0; preset "agentic" 2, 4, 64.
    """

    def scores(view: View) -> Scores:
        size = view.block_size
        prefill = (view.queued_tokens + view.prompt_tokens) / size - credit * view.overlap_blocks
        rows = (
            prefill_scale * np.maximum(prefill, 0.0),
            _known(view.active_blocks, view) + _known(view.new_blocks, view),
            request_weight * view.in_flight,
        )
        return Scores(("prefill", "decode_blocks", "requests"), ("blocks",) * 3, np.stack(rows))

    return scores


def vllm_kv_aware(view: View) -> Scores:
    """`vllm-project/router`, kv_aware: (new + active prefill tokens) * (active requests + 1)."""
    new = view.prompt_tokens - _cached(view)
    cost = (new + view.queued_tokens) * (view.in_flight + 1.0)
    return Scores(("work",), ("tokens * requests",), cost[None, :])


def sglang_cache_aware(view: View) -> Scores:
    """The SGLang gateway's cache_aware with events: longest overlap, unless that one is overloaded.

    No overlap anywhere, or the choice has more than 1.5 times the mean load and 64 above it: least
    load. Ties of overlap go to the lower load.
    """
    load, overlap = view.in_flight, view.overlap_blocks
    best = np.maximum.reduce(overlap)
    holders = overlap == best
    mean = load.mean()
    least = np.minimum.reduce(np.where(holders, load, np.inf))
    spills = best == 0 or (least > 1.5 * mean and least > mean + 64.0)
    gate = np.zeros_like(load) if spills else np.where(holders, 0.0, _GATE)
    return Scores(("not_longest", "in_flight"), ("gate", "requests"), np.stack((gate, load)))


def llm_d(view: View) -> Scores:
    """llm-d's weighted scorers: prefix 3, queue 2, KV use 2 (chart defaults), each in 0..1.

    The highest sum wins there, so the cost is what is missing from it. Queue and KV use are those
    known here: requests in flight for both.
    """
    load = view.in_flight
    low, high = np.minimum.reduce(load), np.maximum.reduce(load)
    spread = (load - low) / (high - low) if high > low else np.zeros_like(load)
    missed = 1.0 - _cached(view) / max(1, view.prompt_tokens)
    return Scores(
        ("prefix", "queue", "kv_use"),
        ("score",) * 3,
        np.stack((3.0 * missed, 2.0 * spread, 2.0 * spread)),
    )


def _cached(view: View) -> Numbers:
    """Prompt tokens that need no computing."""
    most = max(0, view.prompt_tokens - 1) // view.block_size
    cached: Numbers = np.minimum(view.overlap_blocks, most) * float(view.block_size)
    return cached


def _known(blocks: Numbers | None, view: View) -> Numbers:
    return np.zeros(len(view.worker_ids)) if blocks is None else blocks
