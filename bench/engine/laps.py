"""What the engine's benchmark writes down: one row for each comparison, medians of its rounds.

Pure: samples in, plain values out. The keys `machine`, `versions` and `rows` with `name`, `ours`,
`peer`, `ratio` and `unit` are read by the README's table; more keys may come, none may go.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

RATES = "tokens/s"
TIMES = "ms"
Given = TypeVar("Given")
Watch = Callable[[int, int], None]  # rounds done, rounds in all


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One comparison. `ratio` is how many times better ours is, whatever the unit.

    `cpu_ratio` is the same by processor time, which other programs on the machine disturb less;
    None where the work is spread over processes. `bar` is the ratio that was promised. `of_limit`
    is how much of what the machine could do ours did, and `limit` what would stop it;
    `spent` the shares of our time by kind of work.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    rounds: int
    cpu_ratio: float | None = None
    bar: float | None = None
    of_limit: float | None = None
    limit: str | None = None
    spent: Mapping[str, float] | None = None

    @property
    def is_met(self) -> bool:
        return self.bar is None or self.ratio >= self.bar


@dataclass(frozen=True, slots=True)
class Lap:
    """Some tokens and what they took."""

    tokens: int
    wall_s: float
    cpu_s: float


class Stopwatch:
    """Started when made. Processor time is this process's, all threads."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def lap(self, tokens: int) -> Lap:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        return Lap(tokens, wall_s - self._wall_s, cpu_s - self._cpu_s)


Laps = dict[str, list[Lap]]  # by side, one each a round


def rates(name: str, ours: Sequence[Lap], peer: Sequence[Lap]) -> EngineRow:
    """Tokens a second, the more the better."""
    mine, other = (median(x.tokens / x.wall_s for x in side) for side in (ours, peer))
    cpu, other_cpu = (median(x.cpu_s / x.tokens for x in side) for side in (ours, peer))
    return _rounded(EngineRow(name, mine, other, mine / other, RATES, len(ours), other_cpu / cpu))


def times(name: str, ours: Sequence[Lap], peer: Sequence[Lap]) -> EngineRow:
    """Milliseconds, the fewer the better."""
    mine, other = (median(x.wall_s * 1000 for x in side) for side in (ours, peer))
    return _rounded(EngineRow(name, mine, other, other / mine, TIMES, len(ours)))


def _rounded(row: EngineRow) -> EngineRow:
    cpu_ratio = None if row.cpu_ratio is None else round(row.cpu_ratio, 3)
    return replace(
        row,
        ours=round(row.ours, 2),
        peer=round(row.peer, 2),
        ratio=round(row.ratio, 3),
        cpu_ratio=cpu_ratio,
    )


def interleaved(
    sides: Mapping[str, Callable[[Given], Lap]], inputs: Sequence[Given], watch: Watch
) -> Laps:
    """One round an input: all sides, another one first each time. The first input warms up."""
    laps: Laps = {name: [] for name in sides}
    order = list(sides)
    for number, given in enumerate(inputs):
        for name in order:
            lap = sides[name](given)
            if number:
                laps[name].append(lap)
        order.append(order.pop(0))
        watch(number, len(inputs) - 1)
    return laps


def record(
    rows: Sequence[EngineRow], machine: Mapping[str, object], versions: Mapping[str, str]
) -> dict[str, object]:
    """The whole JSON document."""
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "rows": [asdict(row) for row in rows],
    }


def kept(path: Path, rows: Sequence[EngineRow]) -> list[EngineRow]:
    """Rows of a file, in its order, with these in place of those of their names."""
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    by_name = {row["name"]: EngineRow(**row) for row in old} | {row.name: row for row in rows}
    return list(by_name.values())


def write_record(path: Path, document: Mapping[str, object]) -> None:
    """Beside its place first: a reader never sees half a document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".json.part")
    scratch.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
