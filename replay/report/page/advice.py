"""Advice: which policy to take on this traffic, in one sentence with its size, and what to know.

Pure, computed whichever way the runs came out: with an equal pair there is no winner, with one run
there is nothing to compare.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radixroute.replay.report.figures import ttft_parts
from radixroute.replay.report.page.shown import Group, Shown, Standing
from radixroute.replay.report.page.words import count, duration, percent
from radixroute.replay.report.table import EQUAL, agreement

# Where the best policy is that much worse in something than another, the page says so.
_WORTH_SAYING = 0.05
_BLIND = "round_robin"  # knows nothing of caches: what all knowledge is worth


@dataclass(frozen=True, slots=True)
class Advice:
    """For the first screen."""

    sentence: str
    names: tuple[str, ...]  # of the policies it tells to take
    notes: tuple[str, ...]  # one sentence each


def advice(found: Sequence[Group], ranked: Sequence[Standing]) -> Advice:
    """`ranked`: of all settings, best first."""
    if not found:
        return Advice("There are no runs, so there is no advice.", (), ())
    if not ranked:
        return Advice(
            "No request was answered under any policy: look at fleet and trace before policies.",
            (),
            (),
        )
    if len(found) > 1:
        return _over_all(found, ranked)
    return _of_one(found[0])


def _of_one(group: Group) -> Advice:
    answered = group.answered
    notes = (*_against(group), *_beside(group))
    first = answered[0]
    soon = duration(first.figures.ttft_mean_ms)
    if len(answered) == 1:
        return Advice(
            f"{first.name} answers after {soon} on average; with no other policy beside it there"
            " is nothing to choose.",
            (first.name,),
            notes,
        )
    second = answered[1]
    later = duration(second.figures.ttft_mean_ms)
    saved = _saved(first, second)
    if saved < EQUAL:
        third = ""
        if len(answered) > 2:
            after = duration(answered[2].figures.ttft_mean_ms)
            third = f"; the next, {answered[2].name}, after {after}"
        return Advice(
            f"Take {first.name} or {second.name}: they answer equally soon, after {soon} and"
            f" {later} on average{third}.",
            (first.name, second.name),
            notes,
        )
    return Advice(
        f"Take {first.name}: its first tokens come {percent(saved)} sooner than with {second.name},"
        f" the next best of {len(answered)} policies ({soon} on average, not {later});"
        f" {_reason(first, second)}.",
        (first.name,),
        notes,
    )


def _over_all(found: Sequence[Group], ranked: Sequence[Standing]) -> Advice:
    everywhere = [one for one in ranked if one.settings == len(found)]
    if not everywhere:
        return Advice(
            "No policy answered in every setting, so they are compared setting by setting.", (), ()
        )
    first, settings = everywhere[0], count(len(found), "setting")
    unanswered = tuple(_unanswered([one for group in found for one in group.judged]))
    if len(everywhere) == 1:
        return Advice(
            f"Take {first.name}: it alone answered in all of {settings}, and first in"
            f" {_of(first.wins, found)}.",
            (first.name,),
            unanswered,
        )
    second = everywhere[1]
    saved = 1 - first.above / second.above
    if saved < EQUAL:
        sentence = (
            f"Take {first.name} or {second.name}: over {settings} they answer equally soon"
            " (geometric mean)"
        )
        return Advice(
            f"{sentence}, first in {first.wins} and {second.wins} of them.",
            (first.name, second.name),
            unanswered,
        )
    return Advice(
        f"Take {first.name}: over {settings} its first tokens come {percent(saved)} sooner than"
        f" with {second.name}, the next best (geometric mean); it is first in"
        f" {_of(first.wins, found)}.",
        (first.name,),
        unanswered,
    )


def _of(wins: int, found: Sequence[Group]) -> str:
    return "each of them" if wins == len(found) else f"{wins} of them"


def _reason(first: Shown, second: Shown) -> str:
    """Which part of the time to first token is the most of what it saves."""
    one, other = (ttft_parts(shown.run.result).means() for shown in (first, second))
    at_router, at_worker, computing = (b - a for a, b in zip(one, other, strict=True))
    if computing >= at_router + at_worker:
        return "most of that is time not spent computing prompts"
    return "most of that is time not spent waiting for a worker"


def _against(group: Group) -> Iterator[str]:
    """What else to know of the best run: where others are better, and how far it is."""
    answered = group.answered
    first = answered[0].figures
    tail = min(answered, key=lambda one: one.figures.ttft_p99_ms)
    if first.ttft_p99_ms > (1 + _WORTH_SAYING) * tail.figures.ttft_p99_ms:
        yield (
            f"For the slowest hundredth of requests {tail.name} is better: they wait up to"
            f" {duration(tail.figures.ttft_p99_ms)}, not {duration(first.ttft_p99_ms)} (p99)."
        )
    timed = [one for one in answered if one.figures.itl_mean_ms > 0]  # never where it is NaN
    steady = min(timed, key=lambda one: one.figures.itl_mean_ms, default=None)
    if steady and first.itl_mean_ms > (1 + _WORTH_SAYING) * steady.figures.itl_mean_ms:
        yield (
            f"Between tokens {steady.name} is quicker: {duration(steady.figures.itl_mean_ms)},"
            f" not {duration(first.itl_mean_ms)}."
        )
    if first.of_reachable is not None:
        yield (
            f"{answered[0].name} reuses {percent(first.of_reachable)} of what any router could have"
            " reused with these caches."
        )
    for one in answered[2:]:
        if one.figures.policy == _BLIND:
            yield (
                f"{one.name}, which knows nothing of caches, takes"
                f" {duration(one.figures.ttft_mean_ms)}."
            )
    yield from _unanswered(group.judged)


def _beside(group: Group) -> Iterator[str]:
    """Of live runs: what was simulated of them."""
    figures = [one.figures for one in group.shown]
    for one in group.answered:
        if len(group.judged) < len(group.shown):
            yield agreement(one.figures, figures)


def _unanswered(judged: Sequence[Shown]) -> Iterator[str]:
    total = sum(one.figures.unanswered for one in judged)
    if total:
        yield f"{count(total, 'request')} never got an answer and count in no time."


def _saved(first: Shown, second: Shown) -> float:
    """Of the second's mean time to first token."""
    mean_ms = second.figures.ttft_mean_ms
    return 1 - first.figures.ttft_mean_ms / mean_ms if mean_ms else 0.0
