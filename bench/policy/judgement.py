"""Judgement: who is the best other policy at each setting, how ours compares, and the bars.

Pure but for asking whoever makes runs. Every policy runs once at each setting (draw 0). The best
four others of a setting, and the best single other over all settings, then run in every other draw
beside ours, and whichever of them has the lowest mean over all draws is the setting's rival. Taking
the best of several afterwards favours the rival, never us.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log

from bench.policy.grid import Outcome, Setting, Task
from bench.policy.limits import Difference, difference, difference_of

PRESET = "dynamo_agentic"  # what most who route by caches run
# Per cent against the best other of each setting.
TTFT_BAR, P99_BAR, ITL_BAR = 1.0, 3.0, 6.0
MEAN_BAR, CONVERSATION_BAR, PRESET_BAR = -0.5, -4.0, -4.0

Made = Callable[[Sequence[Task]], Mapping[Task, Outcome]]


@dataclass(frozen=True, slots=True)
class Compared:
    """Ours against one other over the same draws of one setting."""

    other: str
    ours_ms: float  # mean over the draws of mean times to first token
    other_ms: float
    ttft: Difference
    p99: Difference
    itl: Difference


@dataclass(frozen=True, slots=True)
class Judged:
    """One setting."""

    setting: Setting
    draws: tuple[Outcome, ...]  # of ours
    rival: Compared  # the best other here
    single: Compared  # the best single other over all
    preset: Compared | None  # None: not run
    first_ms: Mapping[str, float]  # of every policy: mean time to first token in draw 0


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise: `value` is to be `limit` or less, per cent."""

    name: str
    value: float
    limit: float

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Judgement:
    """The grid, whole or in part."""

    ours: str
    single: str
    settings: tuple[Judged, ...]


def judge(
    ours: str, others: Sequence[str], settings: Sequence[Setting], best: int, draws: int, made: Made
) -> Judgement:
    """`best`: others of a setting that meet every draw. `made` gives the outcomes of tasks."""
    first = dict(made([Task(s, 0, policy) for s in settings for policy in (ours, *others)]))

    def mean_ms(setting: Setting, policy: str) -> float:
        return first[Task(setting, 0, policy)].mean_ms

    single = min(others, key=lambda policy: sum(log(mean_ms(s, policy)) for s in settings))
    close: dict[Setting, list[str]] = {}
    for setting in settings:
        ranked = sorted(others, key=lambda policy, s=setting: mean_ms(s, policy))  # type: ignore[misc]
        close[setting] = list(dict.fromkeys([*ranked[:best], single]))
    again = [
        Task(setting, draw, policy)
        for setting, rivals in close.items()
        for policy in (ours, *rivals)
        for draw in range(1, draws)
    ]
    found = {**first, **made(again)}

    def drawn(setting: Setting, policy: str) -> list[Outcome]:
        """In every draw that it met."""
        tasks = [Task(setting, draw, policy) for draw in range(draws)]
        return [found[task] for task in tasks if task in found]

    judged = []
    for setting, rivals in close.items():
        mine = drawn(setting, ours)
        against = [compared(policy, mine, drawn(setting, policy)) for policy in rivals]
        preset = None
        if PRESET in others:
            preset = compared(PRESET, mine, drawn(setting, PRESET))
        judged.append(
            Judged(
                setting,
                tuple(mine),
                rival=max(against, key=lambda one: one.ttft.mean),
                single=next(one for one in against if one.other == single),
                preset=preset,
                first_ms={policy: mean_ms(setting, policy) for policy in (ours, *others)},
            )
        )
    return Judgement(ours, single, tuple(judged))


def compared(other: str, mine: Sequence[Outcome], theirs: Sequence[Outcome]) -> Compared:
    """Over the draws that both met: the first ones."""
    mine = mine[: len(theirs)]

    def of(name: str) -> Difference:
        a = [getattr(one, name) for one in mine]
        b = [getattr(one, name) for one in theirs]
        if not all(a) or not all(b):  # one token an answer: there is no time between tokens
            return difference_of([0.0] * len(a))
        return difference(a, b)

    return Compared(
        other=other,
        ours_ms=sum(one.mean_ms for one in mine) / len(mine),
        other_ms=sum(one.mean_ms for one in theirs) / len(theirs),
        ttft=of("mean_ms"),
        p99=of("p99_ms"),
        itl=of("itl_ms"),
    )


def overall(compared: Sequence[Compared]) -> Difference:
    """Geometric mean over settings; its limits are those of the settings' own, taken together.

    Settings share no draws' luck: each setting's half width counts by its square.
    """
    n = len(compared)
    mean = sum(one.ttft.mean for one in compared) / n
    half = sum((one.ttft.high - one.ttft.mean) ** 2 for one in compared) ** 0.5 / n
    return Difference(min(one.ttft.n for one in compared), mean, mean - half, mean + half)


def bars(judgement: Judgement, with_bars: Sequence[str]) -> list[Bar]:
    """The promises, over the settings of the workloads that have them. Empty without any."""
    judged = [one for one in judgement.settings if one.setting.workload in with_bars]
    if not judged:
        return []
    talks = [one.rival for one in judged if one.setting.workload.startswith("conversation")]
    presets = [one.preset for one in judged if one.preset is not None]
    found = [
        Bar("mean TTFT, upper limit, at the worst setting",
            max(one.rival.ttft.high_per_cent for one in judged), TTFT_BAR),
        Bar("p99 TTFT, mean of draws, at the worst setting",
            max(one.rival.p99.per_cent for one in judged), P99_BAR),
        Bar("mean ITL, mean of draws, at the worst setting",
            max(one.rival.itl.per_cent for one in judged), ITL_BAR),
        Bar("mean TTFT, geometric mean over settings",
            overall([one.rival for one in judged]).per_cent, MEAN_BAR),
    ]  # fmt: skip
    if talks:
        found.append(Bar("conversation, geometric mean", overall(talks).per_cent, CONVERSATION_BAR))
    if presets:
        name = f"against {PRESET}, geometric mean"
        found.append(Bar(name, overall(presets).per_cent, PRESET_BAR))
    return found
