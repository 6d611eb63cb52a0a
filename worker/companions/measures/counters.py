"""Counters of one companion: attempts by how they ended, and what came of them.

A few additions an answer's piece; read when somebody asks for the metrics page.
"""

from typing import Final

from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.dialects.dialect import Heard

# Ends that an engine does not say: its client or router left, or it was never asked.
CANCELLED: Final = "cancelled"
REFUSED: Final = "refused"


class CompanionCounters:
    """Of one life. Owned by its companion."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {
            **{finish.name.lower(): 0 for finish in FinishReason},
            CANCELLED: 0,
            REFUSED: 0,
        }
        self.output_tokens = self.cached_tokens = 0
        self.passed_bytes = 0  # of verbatim answers
        self.events = 0  # of ours, that were told on

    def heard(self, heard: Heard) -> None:
        """A piece of an answer that somebody waits for."""
        self.output_tokens += len(heard.token_ids)
        if heard.passage is not None:
            self.output_tokens += heard.passage.n_tokens
            self.passed_bytes += len(heard.passage.data)
        self.cached_tokens += heard.cached_tokens or 0
        if heard.finish is not None:
            self.ended(heard.finish.name.lower())

    def ended(self, how: str) -> None:
        """An attempt is over."""
        self.ends[how] += 1
