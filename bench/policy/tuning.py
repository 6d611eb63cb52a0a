"""Constants of the default policy varied: chosen on one half of the workloads and judged on the
other, both ways. Pure but for asking whoever makes runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.policy.grid import OURS, Outcome, Setting, Task
from bench.policy.judgement import Compared, Made, compared, overall
from bench.policy.table import limits
from bench.policy.workloads import WORKLOADS, A, B


@dataclass(frozen=True, slots=True)
class Tried:
    """One variant against the constants as they are, by half."""

    policy: str
    by_half: Mapping[str, Sequence[Compared]]  # a setting each

    def mean(self, half: str) -> float:
        """Of logarithms."""
        return overall(self.by_half[half]).mean


def tune(
    policies: Sequence[str], settings: Sequence[Setting], draws: int, made: Made
) -> list[Tried]:
    """Every variant in every draw of every setting."""
    everyone = (OURS, *policies)
    found = made([Task(s, draw, p) for s in settings for draw in range(draws) for p in everyone])

    def drawn(setting: Setting, policy: str) -> list[Outcome]:
        return [found[Task(setting, draw, policy)] for draw in range(draws)]

    tried = []
    for policy in policies:
        by_half: dict[str, list[Compared]] = {A: [], B: []}
        for setting in settings:
            one = compared(OURS, drawn(setting, policy), drawn(setting, OURS))
            by_half[WORKLOADS[setting.workload].half].append(one)
        tried.append(Tried(policy, by_half))
    return tried


def lines(tried: Sequence[Tried]) -> Iterator[str]:
    """Per cent against the constants as they are; below 0 is better."""
    halves = [half for half in (A, B) if all(one.by_half[half] for one in tried)]
    yield f"{'':40}" + "".join(
        f"{half + ': mean TTFT':>34} {'worst':>7} {'p99':>6} {'ITL':>6}" for half in halves
    )
    for one in tried:
        yield f"{one.policy:40}" + "".join(_half(one.by_half[half]) for half in halves)
    if len(halves) < 2:
        yield "only one half was run: nothing is judged"
        return
    for chosen_on, judged_on in ((A, B), (B, A)):
        best = min(tried, key=lambda one, half=chosen_on: one.mean(half))  # type: ignore[misc]
        if best.mean(chosen_on) >= 0.0:
            yield f"chosen on {chosen_on}: the constants as they are"
            continue
        there = overall(best.by_half[judged_on])
        yield (
            f"chosen on {chosen_on}: {best.policy}; on {judged_on} it is"
            f" {there.per_cent:+.2f} % {limits(there)}"
        )


def _half(found: Sequence[Compared]) -> str:
    mean = overall(found)
    worst = max(one.ttft.per_cent for one in found)
    p99 = sum(one.p99.per_cent for one in found) / len(found)
    itl = sum(one.itl.per_cent for one in found) / len(found)
    return f"{mean.per_cent:+17.2f} {limits(mean):>16} {worst:+7.2f} {p99:+6.2f} {itl:+6.2f}"
