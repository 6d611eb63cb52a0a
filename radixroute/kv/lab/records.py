"""What an experiment gives: measured numbers, how to draw them, and a paragraph that explains.

Plain frozen values without torch: they are shown, drawn and written as JSON as they stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Series:
    """One curve, or one colour of bars. `xs` of bars: places in the plot's categories."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    is_formula: bool = False  # computed, not measured: drawn dashed

    @classmethod
    def of(
        cls, name: str, points: Sequence[tuple[float, float]], *, is_formula: bool = False
    ) -> "Series":
        return cls(name, tuple(x for x, _ in points), tuple(y for _, y in points), is_formula)

    @classmethod
    def bars(cls, name: str, values: Sequence[float]) -> "Series":
        return cls(name, tuple(float(i) for i in range(len(values))), tuple(values))


class Kind(Enum):
    """How a plot is drawn."""

    LINES = "lines"
    POINTS = "points"  # points for what is measured, lines for formulas
    BARS = "bars"


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot. Labels say the unit."""

    name: str  # of its picture's file
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Kind = Kind.LINES
    is_log_x: bool = False
    is_log_y: bool = False
    categories: tuple[str, ...] = ()  # of bars


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; numbers are written as people read them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def words(self) -> tuple[bool, ...]:
        """Of each column whether it holds words: in no row does it begin like a number."""
        return tuple(
            not any(row[at][:1].isdigit() or row[at][:1] in "-+" for row in self.rows)
            for at in range(len(self.columns))
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What one experiment found."""

    name: str
    title: str
    question: str
    text: str  # what it shows and why; follows the numbers of this run
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)  # by name, units in the names
    seconds: float = 0.0  # that it took


@dataclass(frozen=True, slots=True)
class Skipped:
    """An experiment that could not run here, and why."""

    name: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabReport:
    """One run of the lab."""

    machine: str
    models: tuple[str, ...]
    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]
    command: str
    seconds: float
    is_quick: bool
