"""Policies: one table, name -> pure function from what is known to a choice with its reasons.

Nothing here has state: turns and random bits come with the view, so that the same view always
gives the same choice. Adding a policy is one function and one line in the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy import peers
from radixroute.router.policy.affinity import session_affinity
from radixroute.router.policy.score import radix_scores
from radixroute.router.policy.view import Choice, Numbers, Scores, View

Choose: TypeAlias = Callable[[View], Choice]

# Scores this close are the same: below what step timings can tell.
TIE_MS = 1e-6


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are given to workers."""

    choose: Choose
    # Waiting requests are planned together and bound when their worker can start them.
    is_planned: bool = False
    may_replicate: bool = False  # reads `View.replica_ms`
    # Requests wait, shortest uncached prompt first, while every worker has more than this share of
    # a step's tokens queued. None: nobody waits.
    queue_threshold: float | None = None
    needs_blocks: bool = False  # reads `View.active_blocks` and `new_blocks`
    # Overlaps are those of blocks learned from its own decisions: cache events are never read.
    learns: bool = False


def round_robin(view: View) -> Choice:
    """Each worker in turn."""
    chosen = view.turn % len(view.worker_ids)
    return Choice(chosen, "It was this worker's turn.", _load_scores(view))


def random(view: View) -> Choice:
    """Any worker, all alike."""
    chosen = view.draw % len(view.worker_ids)
    return Choice(chosen, "Drawn at random.", _load_scores(view))


def least_loaded(view: View) -> Choice:
    """The worker with the fewest requests in flight."""
    scores = _load_scores(view)
    chosen = _cheapest(scores.totals, view.draw)
    return Choice(chosen, "It has the fewest requests in flight.", scores)


def power_of_two(view: View) -> Choice:
    """The less loaded of two workers drawn at random."""
    scores = _load_scores(view)
    n = len(view.worker_ids)
    if n == 1:
        return Choice(0, "It was the only candidate.", scores)
    first, rest = view.draw % n, view.draw // n
    second = (first + 1 + rest % (n - 1)) % n
    pair = [first, second]
    chosen = pair[_cheapest(scores.totals[pair], rest // n)]
    return Choice(chosen, "It has the fewer requests in flight of two drawn at random.", scores)


def radix(view: View) -> Choice:
    """The worker where first token and harm together cost the least time."""
    scores = radix_scores(view)
    chosen = _cheapest(scores.totals, view.draw)
    return Choice(chosen, radix_reason(view, chosen), scores)


def radix_reason(view: View, chosen: int) -> str:
    overlap = view.overlap_blocks[chosen]
    if overlap == 0 or view.in_flight[chosen] >= view.cap:
        return "Nothing cached there counts; it is where the prompt is computed soonest."
    if overlap < np.maximum.reduce(view.overlap_blocks):
        if view.replica_ms > 0.0:
            return "Those who hold more of it were busy often enough to make one more copy here."
        return "Another worker holds more of it, but there it would wait longer or do more harm."
    return "It holds the longest prefix and starts soonest."


def _published(score: Callable[[View], Scores]) -> Choose:
    """A policy of another router: the lowest cost of its published formula, ties at random."""

    def choose(view: View) -> Choice:
        scores = score(view)
        chosen = _cheapest(scores.totals, view.draw)
        return Choice(chosen, "Its published cost is the lowest there.", scores)

    return choose


POLICIES: dict[str, Policy] = {
    "radix": Policy(radix, is_planned=True, may_replicate=True),
    "radix_at_once": Policy(radix, may_replicate=True),
    "round_robin": Policy(round_robin),
    "random": Policy(random),
    "least_loaded": Policy(least_loaded),
    "power_of_two": Policy(power_of_two),
    "session_affinity": Policy(session_affinity),
    "prefix_approx": Policy(radix, is_planned=True, may_replicate=True, learns=True),
    "dynamo": Policy(_published(peers.dynamo(1.0, 1.0, 0.0)), needs_blocks=True),
    "dynamo_agentic": Policy(_published(peers.dynamo(2.0, 4.0, 64.0)), needs_blocks=True),
    "dynamo_wspt": Policy(
        _published(peers.dynamo(1.5, 1000.0, 64.0)), queue_threshold=0.01, needs_blocks=True
    ),
    "sglang_cache_aware": Policy(_published(peers.sglang_cache_aware)),
    "llm_d": Policy(_published(peers.llm_d)),
    "vllm_kv_aware": Policy(_published(peers.vllm_kv_aware)),
}


def policy_named(name: str) -> Policy:
    try:
        return POLICIES[name]
    except KeyError:
        known = ", ".join(sorted(POLICIES))
        raise UnknownPolicy(f"unknown policy: use one of {known}") from None


def _load_scores(view: View) -> Scores:
    return Scores(("in_flight",), ("requests",), view.in_flight[None, :])


def _cheapest(totals: Numbers, draw: int) -> int:
    """The lowest total; ties break by the draw, never by position."""
    ties = (totals <= np.minimum.reduce(totals) + TIE_MS).nonzero()[0]
    return int(ties[draw % len(ties)])
