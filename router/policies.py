"""Policies: one table, name -> pure function from what is known to a choice with its reasons.

Nothing here has state: turns and random bits come with the view, so that the same view always
gives the same choice. Adding a policy is one function and one line in the table.
"""

from collections.abc import Callable
from typing import TypeAlias

from radixroute.router.candidates import Candidate, Choice, Score, Term, View
from radixroute.router.errors import UnknownPolicy
from radixroute.router.score import credit_blocks, radix_score

Policy: TypeAlias = Callable[[View], Choice]

# Scores this close are the same: below what step timings can tell.
TIE_MS = 1e-6


def round_robin(view: View) -> Choice:
    """Each worker in turn."""
    chosen = view.turn % len(view.candidates)
    return Choice(chosen, "It was this worker's turn.", _load_scores(view))


def random(view: View) -> Choice:
    """Any worker, all alike."""
    chosen = view.draw % len(view.candidates)
    return Choice(chosen, "Drawn at random.", _load_scores(view))


def least_loaded(view: View) -> Choice:
    """The worker with the fewest requests in flight."""
    scores = _load_scores(view)
    chosen = _cheapest(scores, range(len(scores)), view.draw)
    return Choice(chosen, "It has the fewest requests in flight.", scores)


def power_of_two(view: View) -> Choice:
    """The less loaded of two workers drawn at random."""
    scores = _load_scores(view)
    n = len(scores)
    if n == 1:
        return Choice(0, "It was the only candidate.", scores)
    first, rest = view.draw % n, view.draw // n
    second = (first + 1 + rest % (n - 1)) % n
    chosen = _cheapest(scores, (first, second), rest // n)
    return Choice(chosen, "It has the fewer requests in flight of two drawn at random.", scores)


def radix(view: View) -> Choice:
    """The worker where first token and harm together cost the least time."""
    scores = tuple(radix_score(view, candidate) for candidate in view.candidates)
    chosen = _cheapest(scores, range(len(scores)), view.draw)
    return Choice(chosen, _radix_reason(view, view.candidates[chosen]), scores)


POLICIES: dict[str, Policy] = {
    "radix": radix,
    "round_robin": round_robin,
    "random": random,
    "least_loaded": least_loaded,
    "power_of_two": power_of_two,
}


def policy_named(name: str) -> Policy:
    try:
        return POLICIES[name]
    except KeyError:
        known = ", ".join(sorted(POLICIES))
        raise UnknownPolicy(f"unknown policy: use one of {known}") from None


def _load_scores(view: View) -> tuple[Score, ...]:
    return tuple(
        Score((Term("in_flight", float(candidate.load.in_flight), "requests"),))
        for candidate in view.candidates
    )


def _cheapest(scores: tuple[Score, ...], among: range | tuple[int, ...], draw: int) -> int:
    """The lowest score; ties break by the draw, never by position."""
    totals = [(scores[i].total, i) for i in among]
    best = min(total for total, _ in totals)
    ties = [i for total, i in totals if total <= best + TIE_MS]
    return ties[draw % len(ties)]


def _radix_reason(view: View, chosen: Candidate) -> str:
    if chosen.overlap_blocks == 0 or credit_blocks(view, chosen) == 0:
        return "Nothing cached there counts; it is where the prompt is computed soonest."
    longest = max(candidate.overlap_blocks for candidate in view.candidates)
    if chosen.overlap_blocks < longest:
        return "Another worker holds more of it, but there it would wait longer or do more harm."
    return "It holds the longest prefix and starts soonest."
