"""Runs as the page shows them: their names, colours and order, and who stands where over all.

Pure. Runs of one setting (workers, speed, seed) are compared with one another; where some are live,
those are judged, and the simulated ones stand beside them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from radixroute.replay.report.figures import RunFigures
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.report.table import by_setting, setting_name, setting_names
from radixroute.replay.report.text import printable, short
from radixroute.replay.results import LIVE

COLOURS = 7  # that are told apart; further runs repeat them, dashed
_LONGEST_NAME = 48
_LEAST_MS = 1e-6  # a mean of 0 has no ratio to others


@dataclass(frozen=True, slots=True)
class Shown:
    """A run on the page."""

    run: ReportedRun
    figures: RunFigures
    name: str  # its own in its setting
    key: int  # place of its name over all settings: its colour
    reachable: float | None  # reuse that its bound allows; None: not known

    @property
    def is_answered(self) -> bool:
        return math.isfinite(self.figures.ttft_mean_ms)


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one setting, the soonest to answer first, live ones before all others."""

    name: str  # the whole setting
    short_name: str  # what tells it from other settings; empty where there is one
    shown: tuple[Shown, ...]

    @property
    def judged(self) -> tuple[Shown, ...]:
        """Those that are compared: the live ones where there are any."""
        live = tuple(one for one in self.shown if one.figures.source == LIVE)
        return live or self.shown

    @property
    def answered(self) -> tuple[Shown, ...]:
        """Of those that are compared."""
        return tuple(one for one in self.judged if one.is_answered)


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy over all settings."""

    name: str
    key: int
    above: float  # geometric mean over its settings of mean TTFT / the best there
    wins: int  # settings in which it is the soonest
    settings: int  # in which it answered


def groups(report: Report) -> list[Group]:
    """In order of first appearance in the report."""
    figures = report.figures()
    found = by_setting(figures)
    names = setting_names(list(found))
    unsorted = [
        Group(setting_name(setting), short_name, tuple(_named(report, figures, rows)))
        for short_name, (setting, rows) in zip(names, found.items(), strict=True)
    ]
    place = {one.name: key for key, one in enumerate(_ranked(unsorted))}
    for group in unsorted:  # those that are not judged come after all that are
        for one in group.shown:
            place.setdefault(one.name, len(place))
    return [
        Group(group.name, group.short_name, tuple(_sorted(group.shown, place)))
        for group in unsorted
    ]


def standings(found: Sequence[Group]) -> list[Standing]:
    """Best first; those that answered in every setting before all others."""
    keys = {one.name: one.key for group in found for one in group.shown}
    return [
        Standing(one.name, keys[one.name], one.above, one.wins, one.settings)
        for one in _ranked(found)
    ]


def _named(report: Report, figures: Sequence[RunFigures], rows: Sequence[int]) -> list[Shown]:
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        run = report.runs[row]
        name = short(printable(figures[row].name), _LONGEST_NAME)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        found.append(Shown(run, figures[row], name, 0, report.reachable_of(run)))
    return found


def _sorted(shown: Sequence[Shown], place: dict[str, int]) -> list[Shown]:
    keyed = [replace(one, key=place[one.name]) for one in shown]
    return sorted(
        keyed,
        key=lambda one: (
            one.figures.source != LIVE,
            not one.is_answered,
            one.figures.ttft_mean_ms if one.is_answered else 0.0,
            one.key,
        ),
    )


def _ranked(found: Sequence[Group]) -> list[Standing]:
    ratios: dict[str, list[float]] = {}
    for group in found:
        times = [max(one.figures.ttft_mean_ms, _LEAST_MS) for one in group.answered]
        for one, time in zip(group.answered, times, strict=True):
            ratios.setdefault(one.name, []).append(time / min(times))
    ranked = [
        Standing(
            name,
            0,
            math.exp(math.fsum(map(math.log, of_settings)) / len(of_settings)),
            sum(ratio == 1.0 for ratio in of_settings),
            len(of_settings),
        )
        for name, of_settings in ratios.items()
    ]
    return sorted(ranked, key=lambda one: (-one.settings, one.above, one.name))
