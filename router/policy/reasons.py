"""Reasons: one sentence on why a request went where it went, worked out from the decision's terms.

Owns the words of each term. Pure, and only asked for when somebody looks: a sentence for every
decision would cost as much as the decision. A policy that does not go by its costs alone says its
own sentence (`Decision.reason`); of all others the numbers say which term decided.
"""

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from radixroute.router.policy.decision import Decision
from radixroute.router.policy.view import TIE_MS, Scores, View

# What it means that a term is lower on the chosen worker than elsewhere; others are only named.
_WORDS = MappingProxyType(
    {
        "queue": "less is ahead of it here",
        "prefill": "the prompt takes less time to compute here",
        "steps": "its steps wait less for the decoding of others here",
        "compute": "whoever comes next here waits less for it",
        "slow_down": "those who run here are held up less by it",
        "turnover": "what it pushes out of this cache is missed less",
        "replica": "those who hold more were busy often enough to pay for one more copy here",
        "in_flight": "fewer requests are under way here",
    }
)


class Deciding(NamedTuple):
    """What the chosen worker is measured by."""

    other: int  # position of the worker it was chosen before
    term: int  # position of the term with the largest difference in favour of the chosen one


def reason_of(decision: Decision, scores: Scores) -> str:
    """One sentence or two. `scores`: of the decision, as they were."""
    return decision.reason or _by_costs(decision.view, scores, decision.chosen)


def deciding(scores: Scores, chosen: int, other: int) -> Deciding:
    """Which term's difference tipped it between the two."""
    return Deciding(other, int(np.argmax(scores.terms[:, other] - scores.terms[:, chosen])))


def rivals(view: View, scores: Scores, chosen: int) -> tuple[tuple[int, ...], int | None]:
    """Workers that cost the same, and the one to compare with: the best holder where others hold
    more of the prompt, else the runner-up. None: all others cost the same."""
    totals, overlaps = scores.totals, view.overlap_blocks
    others = [w for w in range(len(totals)) if w != chosen]
    ties = tuple(w for w in others if abs(totals[w] - totals[chosen]) <= TIE_MS)
    dearer = [w for w in others if w not in ties]
    holders = [w for w in dearer if overlaps[w] == np.maximum.reduce(overlaps)]
    if holders and max(overlaps[w] for w in holders) > overlaps[chosen]:
        dearer = holders
    return ties, min(dearer, key=lambda w: float(totals[w])) if dearer else None


def _by_costs(view: View, scores: Scores, chosen: int) -> str:
    if len(view.worker_ids) == 1:
        return "It is the only worker that could take it."
    if scores.totals[chosen] > np.minimum.reduce(scores.totals) + TIE_MS:
        return "Another worker would have cost less: it was not chosen by its cost alone."
    ties, other = rivals(view, scores, chosen)
    sentences = []
    if ties:
        first, more = view.worker_ids[ties[0]], len(ties) - 1
        also = f" and {more} more" if more else ""
        sentences.append(f"It costs the same as {first}{also}: one of them was drawn.")
    if other is not None:
        sentences.append(_compared(view, scores, chosen, deciding(scores, chosen, other)))
    return " ".join(sentences)


def _compared(view: View, scores: Scores, chosen: int, found: Deciding) -> str:
    """With how much and by what it is cheaper."""
    totals, name = scores.totals, view.worker_ids[found.other]
    unit = scores.units[0] if len(set(scores.units)) == 1 else ""
    less = _amount(totals[found.other] - totals[chosen], unit)
    here, there = int(view.overlap_blocks[chosen]), int(view.overlap_blocks[found.other])
    if there > here:
        said = f"{name} holds more of it ({there} blocks, {here} here) but costs {less} more"
    else:
        said = f"It costs {less} less than {name}"
    if len(scores.names) == 1:
        return f"{said}."
    term = scores.names[found.term]
    difference = scores.terms[found.term, found.other] - scores.terms[found.term, chosen]
    tipped = f"above all {term} ({_amount(difference, scores.units[found.term])})"
    words = _words(term, here, there)
    return f"{said}, {tipped}: {words}." if words else f"{said}, {tipped}."


def _words(term: str, here: int, there: int) -> str:
    if term == "prefill" and here > there:
        return f"{here} blocks of it are cached here, {there} there"
    return _WORDS.get(term, "")


def _amount(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}".rstrip()
