"""What the engine's benchmark writes down: one row for each comparison, medians of its rounds.

Pure: samples in, plain values out. The keys `machine`, `versions` and `rows` with `name`, `ours`,
`peer`, `ratio` and `unit` are read by the README's table; more keys may come, none may go.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
    None where the work is spread over processes.
    """

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str
    rounds: int
    cpu_ratio: float | None = None


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


@dataclass(slots=True)
class Samples:
    """Laps of both sides, one each a round."""

    ours: list[Lap] = field(default_factory=list)
    peer: list[Lap] = field(default_factory=list)

    def rates(self, name: str) -> EngineRow:
        """Tokens a second, the more the better."""
        ours, peer = (median(x.tokens / x.wall_s for x in side) for side in (self.ours, self.peer))
        mine, theirs = (median(x.cpu_s / x.tokens for x in side) for side in (self.ours, self.peer))
        row = EngineRow(name, ours, peer, ours / peer, RATES, len(self.ours), theirs / mine)
        return _rounded(row)

    def times(self, name: str) -> EngineRow:
        """Milliseconds, the fewer the better."""
        ours, peer = (median(x.wall_s * 1000 for x in side) for side in (self.ours, self.peer))
        return _rounded(EngineRow(name, ours, peer, peer / ours, TIMES, len(self.ours)))


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
    ours: Callable[[Given], Lap],
    peer: Callable[[Given], Lap],
    inputs: Sequence[Given],
    watch: Watch,
) -> Samples:
    """One round an input: both sides, each first in every other one. The first input warms up."""
    samples = Samples()
    for number, given in enumerate(inputs):
        kept = samples if number else Samples()
        sides = [(ours, kept.ours), (peer, kept.peer)]
        for measure, values in sides if number % 2 else reversed(sides):
            values.append(measure(given))
        watch(number, len(inputs) - 1)
    return samples


def record(
    rows: Sequence[EngineRow], machine: Mapping[str, object], versions: Mapping[str, str]
) -> dict[str, object]:
    """The whole JSON document."""
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "rows": [asdict(row) for row in rows],
    }


def write_record(path: Path, document: Mapping[str, object]) -> None:
    """Beside its place first: a reader never sees half a document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".json.part")
    scratch.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
