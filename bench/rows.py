"""Rows of a benchmark: one a comparison, medians of its rounds, and the file they go to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is how many times better ours is; None where nothing of a peer does this.

    `bar` is what we promised: a ratio where there is a peer, else a figure in `unit`. `floor` is
    the peer's cost of the same call with an empty tree, where that says something. `limit` is a
    promise in `unit` where there is a peer, too.
    """

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    unit: str
    bar: float | None = None
    floor: float | None = None
    limit: float | None = None

    @property
    def is_met(self) -> bool:
        if self.limit is not None and self.ours > self.limit:
            return False
        if self.bar is None:
            return True
        if self.ratio is not None:
            return self.ratio >= self.bar
        return self.ours >= self.bar if self.unit.endswith("/s") else self.ours <= self.bar


def timed(name: str, ours: Sequence[float], peer: Sequence[float], bar: float | None = None,
          floor: float | None = None) -> Row:  # fmt: skip
    """Microseconds, one a round: less is better."""
    mine, other = median(ours), median(peer)
    return Row(name, mine, other, other / mine, "us", bar, floor)


def rate(name: str, ours: Sequence[float], peer: Sequence[float], bar: float | None = None) -> Row:
    """Blocks a second, one a round: more is better."""
    mine, other = median(ours), median(peer)
    return Row(name, mine, other, mine / other, "blocks/s", bar)


def alone(name: str, ours: float, unit: str, bar: float | None = None) -> Row:
    return Row(name, ours, None, None, unit, bar)


def per_cent_99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def write(
    path: Path, rows: Sequence[Row], machine: Mapping[str, object], versions: Mapping[str, str],
    more: Mapping[str, object],
) -> None:  # fmt: skip
    record = {"machine": machine, "versions": versions, "rows": [asdict(r) for r in rows], **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
