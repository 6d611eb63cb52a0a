"""Small plots as SVG text: scales, axes and marks in one coordinate frame. Knows no measurements.

Pure, and every text from outside goes through `escape`. Colours are classes; whoever places the
picture says what they are in light and in dark.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from radixroute.replay.report.text import escape

_TICKS = 5  # on an axis, at most, but for one more at its end


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

    def ticks(self) -> list[float]:
        return _log_ticks(self.low, self.high) if self.is_log else self._even_ticks()

    def _even_ticks(self) -> list[float]:
        step = _nice_step((self.high - self.low) / _TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def _nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5, 10, ... that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in decades for m in parts]
        found = [one for one in found if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]
        if len(found) <= _TICKS + 1:
            break
    return found[:: max(1, math.ceil(len(found) / (_TICKS + 1)))]


@dataclass(frozen=True, slots=True)
class Frame:
    """One plot: its size, its two scales and the marks drawn so far, in order."""

    width: float
    height: float
    x: Scale
    y: Scale
    marks: list[str] = field(default_factory=list)

    def axes(self, x_form: str, y_form: str, x_label: str, y_label: str) -> None:
        """Faint lines across, numbers outside; labels say the unit."""
        bottom, left = self.y.start, self.x.start
        for value in self.y.ticks():
            at = number(self.y(value))
            self.marks.append(
                f'<line class="grid" x1="{number(left)}" x2="{number(self.x.end)}"'
                f' y1="{at}" y2="{at}"/>'
            )
            self.text(left - 6, self.y(value) + 4, y_form.format(value), "tick end")
        for value in self.x.ticks():
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

    def line(self, xs: Iterable[float], ys: Iterable[float], classes: str) -> None:
        """A curve; points that fall on the one before are left out."""
        points: list[str] = []
        for x, y in zip(xs, ys, strict=True):
            point = f"{number(self.x(x))},{number(self.y(y))}"
            if not points or points[-1] != point:
                points.append(point)
        if points:
            self.marks.append(f'<polyline class="line {classes}" points="{" ".join(points)}"/>')

    def svg(self, description: str) -> str:
        return (
            f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img"'
            f' aria-label="{escape(description)}">{"".join(self.marks)}</svg>'
        )
