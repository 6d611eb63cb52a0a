"""Random numbers as workloads need them: lengths, waits, popularity. All from one seeded generator.

Lengths are log-normal about their median, as those of people's texts are; waits between arrivals
exponential; popularity by Zipf's law.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.draft import MAX_TOKENS, NS_PER_S

# A length is cut at this many medians: 1 of 2,000 draws at sigma 0.6 would go further.
_LONGEST = 8
_MAX_REQUESTS = 10_000_000


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws of one workload. Each call moves the generator on."""

    rng: np.random.Generator
    sigma: float  # of the logarithms of lengths

    @classmethod
    def of(cls, kind: str, seed: int, sigma: float) -> "Draws":
        """Kinds have streams of their own: one seed serves all of them."""
        source = np.random.SeedSequence([seed, zlib.crc32(kind.encode())])
        return cls(np.random.Generator(np.random.PCG64(source)), sigma)

    def tokens(self, median: int) -> int:
        """A length of 1 or more."""
        drawn = median * math.exp(self.sigma * self.rng.standard_normal())
        return max(1, min(round(drawn), _LONGEST * median))

    def wait_ns(self, median_s: float) -> int:
        """What a person or a tool takes: log-normal, sigma 1 (a few take very long)."""
        drawn = median_s * math.exp(self.rng.standard_normal())
        return round(min(drawn, _LONGEST * median_s) * NS_PER_S)

    def arrivals_ns(self, n: int, per_s: float) -> Numbers:
        """`n` arrivals, `per_s` on average, at random."""
        return np.cumsum(self.rng.exponential(NS_PER_S / per_s, n)).astype(np.int64)

    def spread_tokens(self, low: int, high: int) -> int:
        """A length from `low` to `high`, each doubling as likely."""
        drawn: float = low * (high / low) ** self.rng.random()
        return round(drawn)

    def tool_ns(self, least_s: float, most_s: float) -> int:
        """What a tool takes, heavy-tailed: a bounded Pareto distribution of exponent 1/2.

        Its mean is the geometric mean of its bounds. From 0.2 to 60 s: half take less than 0.72 s,
        the mean is 3.5 s.
        """
        tail = 1 - self.rng.random() * (1 - math.sqrt(least_s / most_s))
        return round(least_s * tail**-2 * NS_PER_S)

    def count(self, low: int, high: int) -> int:
        """From `low` to `high`, each as likely."""
        return int(self.rng.integers(low, high + 1))

    def happens(self, share: float) -> bool:
        return bool(self.rng.random() < share)


def zipf(n: int, exponent: float) -> NDArray[np.float64]:
    """How likely each of `n` things is: the k-th by 1 / k ** exponent."""
    weights: NDArray[np.float64] = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    weights /= weights.sum()
    return weights


@dataclass(frozen=True, slots=True)
class Shape:
    """What every workload has. Lengths are medians, in tokens."""

    requests: int = 2_000
    sigma: float = 0.6  # of the logarithms of lengths; 0: all as long as the median

    def __post_init__(self) -> None:
        """A field's name says what it may be: `_share` 0 to 1, `_tokens` lengths, others > 0."""
        if self.requests > _MAX_REQUESTS:
            raise InvalidShape(f"requests: at most {_MAX_REQUESTS}, not {self.requests}")
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_share"):
                is_good, need = 0 <= value <= 1, "from 0 to 1"
            elif name == "sigma":
                is_good, need = 0 <= value <= 3, "from 0 to 3"
            elif name.endswith("_tokens"):
                is_good, need = 1 <= value <= MAX_TOKENS // 64, f"from 1 to {MAX_TOKENS // 64}"
            else:
                is_good, need = 0 < value < math.inf, "above 0"
            if not is_good:
                raise InvalidShape(f"{name}: a number {need}, not {value}")
