"""Counters of one companion: attempts by how they ended, and what came of them.

A few additions an answer's piece; read when somebody asks for the metrics page.
"""

from collections import Counter
from http import HTTPStatus
from typing import Final

from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.dialects.dialect import EngineNumbers, Heard

# Ends that an engine does not say: its client or router left, or it was never asked.
CANCELLED: Final = "cancelled"
REFUSED: Final = "refused"
OWN_FAULT: Final = 500  # statuses of HTTP from here on are the engine's
_STATUSES: Final = frozenset(HTTPStatus)  # few names on a page
_ANSWERED: Final = (FinishReason.STOP, FinishReason.LENGTH)
HALF_FULL: Final = 0.5  # of its blocks are pinned: what waits there waits for something else


class CompanionCounters:
    """Of one life. Owned by its companion."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {
            **{finish.name.lower(): 0 for finish in FinishReason},
            CANCELLED: 0,
            REFUSED: 0,
        }
        self.statuses: Counter[str] = Counter()  # errors told instead of an answer, by theirs
        self.errors_in_a_row = 0  # of the engine's own, since the last answer
        self.output_tokens = self.cached_tokens = 0
        self.passed_bytes = 0  # of verbatim answers
        self.events = 0  # of ours, that were told on
        # Looks at how the engine does; of these, with more requests there than were sent by this
        # companion, and with some that waited though most of its KV memory was free.
        self.told_looks = self.crowded_looks = self.queued_looks = 0
        self.most_running = 0  # requests, at any of them

    def heard(self, heard: Heard) -> None:
        """A piece of an answer that somebody waits for."""
        self.output_tokens += len(heard.token_ids)
        if heard.passage is not None:
            self.output_tokens += heard.passage.n_tokens
            self.passed_bytes += len(heard.passage.data)
        self.cached_tokens += heard.cached_tokens or 0
        if heard.finish is not None:
            self.ended(heard.finish.name.lower())
            self._told(heard)

    def ended(self, how: str) -> None:
        """An attempt is over."""
        self.ends[how] += 1

    def _told(self, heard: Heard) -> None:
        if heard.status:
            is_known = heard.status in _STATUSES
            self.statuses[str(heard.status) if is_known else "other"] += 1
        if heard.status >= OWN_FAULT:
            self.errors_in_a_row += 1
        elif heard.finish in _ANSWERED:
            self.errors_in_a_row = 0

    def looked(self, n_calls: int, engine: EngineNumbers) -> None:
        """It was asked how it does while so many calls were under way."""
        if not engine.ranks:
            return
        self.told_looks += 1
        # Some may have ended, or were cancelled, since it wrote its page.
        self.crowded_looks += engine.running + engine.waiting > n_calls + max(1, n_calls // 2)
        self.queued_looks += engine.waiting > 0 and engine.kv_usage < HALF_FULL
        self.most_running = max(self.most_running, engine.running)
