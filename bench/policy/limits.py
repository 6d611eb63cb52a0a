"""Means of paired differences of logarithms, with 95 % limits by Student's t.

Pure. A difference is log(ours / rival's) of one draw: the same requests at the same times to both.
As percentages: -1 means that ours is 1 % below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

# Student's t, 97.5 %, by degrees of freedom from 1 on; the normal's for more than these.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
      2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
      2.052, 2.048, 2.045, 2.042)  # fmt: skip
_NORMAL = 1.960


@dataclass(frozen=True, slots=True)
class Difference:
    """Of paired draws. `low` and `high` are infinite where one draw says nothing of the others."""

    n: int
    mean: float  # of logarithms, as are the limits
    low: float
    high: float

    @property
    def per_cent(self) -> float:
        return 100.0 * (exp(self.mean) - 1.0)

    @property
    def low_per_cent(self) -> float:
        return 100.0 * (exp(self.low) - 1.0)

    @property
    def high_per_cent(self) -> float:
        return 100.0 * (exp(self.high) - 1.0) if self.high < inf else inf


def difference(ours: Sequence[float], others: Sequence[float]) -> Difference:
    """Of figures above 0, one a draw, in the same order. Raises ValueError for unequal numbers."""
    return difference_of([log(a / b) for a, b in zip(ours, others, strict=True)])


def difference_of(logs: Sequence[float]) -> Difference:
    """The same of logarithms that are known already; at least one."""
    n = len(logs)
    mean = sum(logs) / n
    if n == 1:
        return Difference(1, mean, -inf, inf)
    deviation = sqrt(sum((one - mean) ** 2 for one in logs) / (n - 1))
    t = _T[n - 2] if n - 2 < len(_T) else _NORMAL
    half = t * deviation / sqrt(n)
    return Difference(n, mean, mean - half, mean + half)
