"""Gaps between the messages of streams, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Gaps:
    """Of several streams while something else went on or did not."""

    ms: list[float] = field(default_factory=list)

    def between(self, times_s: Sequence[float]) -> None:
        """Messages of one stream came then."""
        self.ms += [(b - a) * 1e3 for a, b in pairwise(times_s)]

    def at(self, share: float) -> float:
        """So many of them are shorter."""
        if not self.ms:
            raise ValueError("no stream had two messages: nothing was measured")
        return sorted(self.ms)[min(len(self.ms) - 1, int(len(self.ms) * share))]
