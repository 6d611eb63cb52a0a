"""What the judgement prints: one line a setting, what it comes to, and the bars. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isinf

from bench.policy.judgement import (
    ITL_BAR,
    P99_BAR,
    TTFT_BAR,
    Bar,
    Compared,
    Judged,
    Judgement,
    overall,
)
from bench.policy.limits import Difference

HEAD = (
    f"{'workload':20} {'w':>3} {'load':>4} {'capacity':>9} {'speed':>7} {'ms':>8}  "
    f"{'best other':18} {'ms':>8} {'mean %':>7} {'95 % limits':>17} {'p99 %':>6} {'ITL %':>6}  "
    f"{'best single':>11}"
)


def lines(judgement: Judgement) -> Iterator[str]:
    """Percentages: ours against the other, below 0 is better."""
    yield f"{judgement.ours} against the best other at each setting; single: {judgement.single}"
    yield HEAD
    for one in judgement.settings:
        yield _line(one)
    yield from _found(judgement)
    yield ""
    yield f"{'geometric means, %':28} {'best other':>24} {'best single':>24}"
    by_workload: dict[str, list[Judged]] = {}
    for one in judgement.settings:
        by_workload.setdefault(one.setting.workload, []).append(one)
    for name, judged in {**by_workload, "all": list(judgement.settings)}.items():
        rivals, singles = [one.rival for one in judged], [one.single for one in judged]
        yield f"{name:28} {_overall(rivals):>24} {_overall(singles):>24}"


def _found(judgement: Judgement) -> Iterator[str]:
    """What detectors say of ours."""
    yield ""
    n = 0
    for one in judgement.settings:
        kinds = Counter(kind for draw in one.draws for kind in draw.findings.split())
        n += bool(kinds)
        for kind, times in kinds.items():
            yield f"found in {times} of {len(one.draws)} draws of {one.setting.name}: {kind}"
    if not n:
        yield f"no detector speaks of {judgement.ours} anywhere"


def _line(one: Judged) -> str:
    setting, rival, draw = one.setting, one.rival, one.draws[0]
    return (
        f"{setting.workload:20} {setting.workers:3} {setting.load:4.1f} {draw.capacity:8.2f}x"
        f" {draw.speed:6.2f}x {rival.ours_ms:8.1f}  {rival.other:18} {rival.other_ms:8.1f}"
        f" {rival.ttft.per_cent:+7.2f} {limits(rival.ttft):>17} {rival.p99.per_cent:+6.1f}"
        f" {rival.itl.per_cent:+6.1f}  {one.single.ttft.per_cent:+11.2f}  {_missed(rival)}"
    )


def _missed(rival: Compared) -> str:
    """What this setting alone misses."""
    found = []
    if rival.ttft.low_per_cent > TTFT_BAR:
        found.append("TTFT")
    elif rival.ttft.high_per_cent > TTFT_BAR and rival.ttft.n > 1:
        found.append("unclear")
    elif rival.ttft.per_cent > TTFT_BAR:  # of one draw
        found.append("TTFT?")
    if rival.p99.per_cent > P99_BAR:
        found.append("p99")
    if rival.itl.per_cent > ITL_BAR:
        found.append("ITL")
    return " ".join(found)


def limits(of: Difference) -> str:
    if isinf(of.high):
        return "one draw"
    return f"[{of.low_per_cent:+.2f}, {of.high_per_cent:+.2f}]"


def _overall(compared: Sequence[Compared]) -> str:
    found = overall(compared)
    return f"{found.per_cent:+.2f} {limits(found)}"


def bar_lines(bars: Sequence[Bar]) -> Iterator[str]:
    for bar in bars:
        verdict = "met" if bar.is_met else "MISSED"
        yield f"{verdict:6} {bar.name}: {bar.value:+.2f} %, at most {bar.limit:+.1f} %"
