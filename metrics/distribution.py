"""Distribution: how often values fell into fixed buckets. One bisect and two additions a value.

Plain numbers and no clock: fit for the router's core. `Spread` is what it shows and never changes.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What was seen so far."""

    bounds: tuple[float, ...]  # upper ones, themselves included; above the last there is one more
    counts: tuple[int, ...]  # of each bucket alone, one more than bounds
    total: float  # of all values

    @property
    def cumulative(self) -> list[tuple[str, float]]:
        """Bucket bounds as text with the values up to them; the last is all."""
        rows: list[tuple[str, float]] = []
        n = 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            n += count
            rows.append((bound, n))
        return rows


class Distribution:
    """Values in buckets."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: rising, in the unit of the values."""
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError("bounds of buckets rise")
        self._bounds = tuple(float(bound) for bound in bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def spread(self) -> Spread:
        return Spread(self._bounds, tuple(self._counts), self._total)
