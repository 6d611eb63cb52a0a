"""Plots as SVG text: scales, axes and marks in one coordinate frame. Knows nothing of replays.

Pure, and every text from outside goes through `escape`. Colours are classes (`c0` to `c7`); the
page's style sheet says what they are in light and in dark.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from radixroute.replay.report.text import escape

COLOURS = 8  # that are told apart; further series repeat them, dashed


def number(value: float) -> str:
    """A coordinate: a tenth of a unit is finer than any screen."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to coordinates. `low` < `high`; values outside are moved to the nearer end."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        return _log_ticks(self.low, self.high, most) if self.is_log else self._even_ticks(most)

    def _even_ticks(self, most: int) -> list[float]:
        step = nice_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5, 10, ... that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in decades for m in parts]
        found = [one for one in found if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]
        if len(found) <= most + 1:
            break
    return found[:: max(1, math.ceil(len(found) / (most + 1)))]


@dataclass(frozen=True, slots=True)
class Frame:
    """One plot: its size, its two scales and the marks drawn so far, in order."""

    width: float
    height: float
    x: Scale
    y: Scale
    marks: list[str] = field(default_factory=list)

    def axes(self, x_form: str, y_form: str, x_label: str, y_label: str, ticks: int = 5) -> None:
        """Faint lines across, numbers outside; labels say the unit."""
        bottom, left = self.y.start, self.x.start
        for value in self.y.ticks(ticks):
            at = number(self.y(value))
            self.marks.append(
                f'<line class="grid" x1="{number(left)}" x2="{number(self.x.end)}"'
                f' y1="{at}" y2="{at}"/>'
            )
            self.text(left - 6, self.y(value) + 4, y_form.format(value), "tick end")
        for value in self.x.ticks(ticks):
            self.text(self.x(value), bottom + 16, x_form.format(value), "tick mid")
        self.marks.append(
            f'<line class="axis" x1="{number(left)}" x2="{number(self.x.end)}"'
            f' y1="{number(bottom)}" y2="{number(bottom)}"/>'
        )
        if x_label:
            self.text((left + self.x.end) / 2, bottom + 32, x_label, "label mid")
        if y_label:
            self.text(left, self.y.end - 8, y_label, "label")

    def text(self, x: float, y: float, text: str, classes: str = "") -> None:
        self.marks.append(
            f'<text class="{classes}" x="{number(x)}" y="{number(y)}">{escape(text)}</text>'
        )

    def line(self, xs: Iterable[float], ys: Iterable[float], classes: str, key: int = -1) -> None:
        """A curve. `key` names the series to the page's script."""
        points = self._points(xs, ys)
        if points:
            self.marks.append(
                f'<polyline class="line {classes}"{_key(key)} points="{" ".join(points)}"/>'
            )

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], classes: str
    ) -> None:
        """The area between two curves."""
        points = self._points(xs, high) + self._points(xs, low)[::-1]
        if points:
            self.marks.append(f'<polygon class="band {classes}" points="{" ".join(points)}"/>')

    def rule(self, value: float, label: str) -> None:
        """A dashed line across at a value of y, with its name above it."""
        at = self.y(value)
        self.marks.append(
            f'<line class="rule" x1="{number(self.x.start)}" x2="{number(self.x.end)}"'
            f' y1="{number(at)}" y2="{number(at)}"/>'
        )
        self.text(self.x.end, max(at - 4, 10), label, "note end")

    def dot(self, x: float, y: float, classes: str, key: int, tip: str) -> None:
        self.marks.append(
            f'<circle class="dot {classes}"{_key(key)} data-t="{escape(tip)}"'
            f' cx="{number(self.x(x))}" cy="{number(self.y(y))}" r="5"/>'
        )

    def svg(self, description: str, unit: str = "") -> str:
        """With the unit of x the script may read values off the curves, by these scales."""
        scales = (
            f'{_scale("x", self.x)}{_scale("y", self.y)} data-u="{escape(unit)}"' if unit else ""
        )
        return (
            f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img"'
            f' aria-label="{escape(description)}"{scales}>{"".join(self.marks)}</svg>'
        )

    def _points(self, xs: Iterable[float], ys: Iterable[float]) -> list[str]:
        found: list[str] = []
        for x, y in zip(xs, ys, strict=True):
            point = f"{number(self.x(x))},{number(self.y(y))}"
            if not found or found[-1] != point:
                found.append(point)
        return found


def series_class(index: int) -> str:
    """Colour of a series, and its dash once the colours repeat."""
    return f"c{index % COLOURS}" + (f" d{min(index // COLOURS, 2)}" if index >= COLOURS else "")


def _key(key: int) -> str:
    return f' data-k="{key}"' if key >= 0 else ""


def _scale(name: str, scale: Scale) -> str:
    kind = "log" if scale.is_log else "lin"
    numbers = (scale.low, scale.high, scale.start, scale.end)
    return f' data-{name}="{kind} {" ".join(f"{one:.6g}" for one in numbers)}"'
