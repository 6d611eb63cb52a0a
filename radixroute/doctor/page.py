"""A page of metrics, read: its numbers by name and label. Pure.

What is not on a page is not there: every question has an answer for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from radixroute.worker.companions.dialects.common.prometheus import Sample, samples


@dataclass(frozen=True, slots=True)
class Page:
    """What `GET /metrics` answered. Empty: nothing did."""

    text: bytes = b""

    def total(self, name: str) -> float:
        """Over all labels; 0 where there is none."""
        return sum(one.value for one in self._of(name))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by one label's values."""
        found: dict[str, float] = {}
        for one in self._of(name):
            value = one.labels.get(label)
            if value is not None:
                found[value] = found.get(value, 0.0) + one.value
        return found

    def share_above(self, name: str, bound: float) -> tuple[float, float]:
        """Of a histogram: how many of its values are above a bucket's bound, and how many there
        are. (0, 0) where there is no such bucket."""
        buckets = self._of(f"{name}_bucket")
        n = _sum(buckets, {"le": "+Inf"})
        within = [one for one in buckets if _is_bound(one.labels.get("le", ""), bound)]
        if not within:
            return 0.0, 0.0
        return n - sum(one.value for one in within), n

    def median(self, name: str) -> tuple[float, float]:
        """Of a histogram, about, as buckets are; and how many values it has. The last bucket has no
        end: its beginning."""
        counts: dict[float, float] = {}
        for one in self._of(f"{name}_bucket"):
            bound = float(one.labels.get("le", "inf"))
            counts[bound] = counts.get(bound, 0.0) + one.value
        n, begin, before = max(counts.values(), default=0.0), 0.0, 0.0
        for bound, count in sorted(counts.items()):
            if n and count >= n / 2:
                share = (n / 2 - before) / max(1e-9, count - before)
                return (begin if bound == float("inf") else begin + share * (bound - begin)), n
            begin, before = bound, count
        return 0.0, n

    def _of(self, name: str) -> list[Sample]:
        return samples(self.text, [name])[name]


def _sum(of: list[Sample], labels: Mapping[str, str]) -> float:
    return sum(one.value for one in of if labels.items() <= one.labels.items())


def _is_bound(text: str, bound: float) -> bool:
    try:
        return float(text) == bound
    except ValueError:
        return False
