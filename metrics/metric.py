"""Metric: one line of a table, with all there is to say about it, and where its values come from.

Pure records. A name that breaks the conventions cannot be declared: `radixroute_`, then words, then
the unit; `_total` at the end of counters and of nothing else. Base units only. `S` is whatever the
room takes a reading from, at one moment.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from radixroute.metrics.distribution import Spread

S = TypeVar("S")

PREFIX = "radixroute_"
TOTAL = "_total"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED = ("_bucket", "_count", "_sum", "_created", "_info")  # endings with a meaning elsewhere
# Units that are not base units, and words that are no units.
_OTHER_UNITS = {"ms", "us", "ns", "minutes", "kb", "mb", "gb", "kib", "mib", "percent"}


class Kind(StrEnum):
    """What may be done with a metric's values."""

    COUNTER = "counter"  # only grows while the process lives
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Unit(StrEnum):
    """What is counted or measured; the name ends with it. NONE: things that the name itself says"""

    NONE = ""
    SECONDS = "seconds"
    BYTES = "bytes"
    TOKENS = "tokens"
    BLOCKS = "blocks"


class BrokenMetric(ValueError):
    """A declaration or a reading breaks the rules: a bug of ours."""


class Sample(NamedTuple):
    """One value, with its labels' values in the order of their names."""

    value: float | Spread
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric(Generic[S]):
    """One metric."""

    name: str
    kind: Kind
    help: str  # one sentence without a full stop
    read: Callable[[S], Iterable[Sample]]
    unit: Unit = Unit.NONE
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bare = self.name.removesuffix(TOTAL)
        if not self.name.startswith(PREFIX) or not _NAME.fullmatch(self.name):
            raise BrokenMetric(f"{self.name}: a name is {PREFIX} and words of a-z and 0-9")
        if (bare != self.name) != (self.kind is Kind.COUNTER):
            raise BrokenMetric(f"{self.name}: counters end with {TOTAL}, and nothing else does")
        if bare.endswith(_RESERVED) or _OTHER_UNITS & set(bare.split("_")):
            raise BrokenMetric(f"{self.name}: use seconds and bytes, and none of {_RESERVED}")
        if self.unit is not _unit_of(bare):
            raise BrokenMetric(f"{self.name}: its unit and the last word of its name differ")
        if any(not _NAME.fullmatch(label) or label == "le" for label in self.labels):
            raise BrokenMetric(f"{self.name}: a label's name is made of words of a-z and 0-9")
        if len(set(self.labels)) != len(self.labels):
            raise BrokenMetric(f"{self.name}: a label is named twice")
        if not self.help or self.help.endswith("."):
            raise BrokenMetric(f"{self.name}: its help is one sentence without a full stop")

    def samples(self, seen: S) -> list[Sample]:
        """Its values; each set of labels once. Raises BrokenMetric."""
        samples = list(self.read(seen))
        if any(len(sample.labels) != len(self.labels) for sample in samples):
            raise BrokenMetric(f"{self.name}: a value has other labels than {self.labels}")
        if len({sample.labels for sample in samples}) != len(samples):
            raise BrokenMetric(f"{self.name}: two values have the same labels")
        if any(isinstance(s.value, Spread) != (self.kind is Kind.HISTOGRAM) for s in samples):
            raise BrokenMetric(f"{self.name}: a value is not that of a {self.kind}")
        return samples


def one(value: float) -> tuple[Sample]:
    """The value of a metric without labels."""
    return (Sample(value),)


def by_label(
    label: str,
    name: str,
    meaning: str,
    read: Callable[[S], Iterable[tuple[str, float]]],
    unit: Unit = Unit.NONE,
) -> Metric[S]:
    """A counter for each value of one label, as `read` names them."""

    def samples(seen: S) -> Iterable[Sample]:
        return (Sample(value, (key,)) for key, value in read(seen))

    return Metric(name, Kind.COUNTER, meaning, samples, unit, (label,))


def check_names(names: Iterable[str]) -> None:
    """Raises BrokenMetric for one that stands in two tables, or twice in one."""
    seen: set[str] = set()
    for name in names:
        if name.removesuffix(TOTAL) in seen:
            raise BrokenMetric(f"{name} is declared twice")
        seen.add(name.removesuffix(TOTAL))


def _unit_of(bare: str) -> Unit:
    last = bare.rpartition("_")[2]
    return Unit(last) if last in set(Unit) else Unit.NONE
