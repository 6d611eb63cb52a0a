"""Vitals: whether an engine lives and moves, from what it answers and what it puts out.

Owns what was seen of it: failed looks, the step counter and when it moved, when its process began.
Judges, and leaves asking to `Companion`: no socket, no clock.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from radixroute.worker.companions.dialects.dialect import Answer, EngineNumbers

# One look that fails may be a full backlog; two in a row, a moment apart, are no chance.
FAILED_LOOKS: Final = 2
LOOK_AGAIN_S: Final = 0.25
IDLE_POLL_S: Final = 2.0

GONE: Final = "the engine does not answer any more"
UNWELL: Final = "the engine says that it cannot go on"
ANOTHER_LIFE: Final = "the engine was restarted"
DEAF: Final = "the engine's events are followed no more; the log says why"
STUCK: Final = "the engine makes no step"


@dataclass(slots=True)
class Vitals:
    """One life of an engine."""

    progress_timeout_ns: int
    moved_ns: int = 0  # the last output, or step, or that it had nothing to do
    alive_ns: int = 0  # the last output, or step, and nothing else
    _busy_ns: int | None = None  # since when it has something to do; None: it has not
    _waited_ns: int = 0  # for it since, by requests that are over
    failed: int = 0  # looks in a row
    looks: int = 0
    failed_looks: int = 0  # of them
    steps: int | None = None
    started_s: float | None = None
    latest: EngineNumbers = field(default_factory=EngineNumbers)
    _rank_moved_ns: list[int] = field(default_factory=list)  # each rank's last step, of several

    def moved(self, now_ns: int) -> None:
        """An output came."""
        self.moved_ns = self.alive_ns = now_ns

    def busy(self, now_ns: int) -> None:
        """It was idle until now."""
        self.moved_ns = self._busy_ns = now_ns

    def rests(self, now_ns: int) -> None:
        """It has nothing more to do, whether it did what it had or was given up."""
        self._waited_ns, self._busy_ns = self.still_ns(now_ns), None

    def still_ns(self, now_ns: int) -> int:
        """For how long it has had something to do and nothing came of it. Requests that are given
        up one after another count together: who waits for an engine that stands still leaves."""
        if self._busy_ns is None:
            return self._waited_ns
        if self.alive_ns >= self._busy_ns:
            return now_ns - self.alive_ns
        return self._waited_ns + now_ns - self._busy_ns

    def looked(self, health: Answer) -> str:
        """The answer of its health page; why it is dead, or nothing."""
        self.looks += 1
        self.failed_looks += not health.is_ok
        if health.is_ok:
            self.failed = 0
            return ""
        self.failed += 1
        if self.failed < FAILED_LOOKS:
            return ""
        return UNWELL if health.status else GONE

    def counted(self, numbers: EngineNumbers, now_ns: int, *, busy: Collection[int]) -> str:
        """What its metrics said; why it is dead, or nothing. `busy`: ranks with requests. Of one
        that counts no steps `must_prove` says when to ask for a proof."""
        has_calls, before, self.latest = bool(busy), self.latest, numbers
        if numbers.started_s is not None:
            if self.started_s not in (None, numbers.started_s):
                return ANOTHER_LIFE
            self.started_s = numbers.started_s
        if None not in (self.steps, numbers.steps) and (numbers.steps or 0) < (self.steps or 0):
            return ANOTHER_LIFE
        has_stepped = numbers.steps is not None and numbers.steps != self.steps
        if not has_calls or has_stepped:
            self.moved_ns = now_ns
        if has_stepped:
            self.alive_ns, self._waited_ns = now_ns, 0
        self.steps = numbers.steps
        is_still = has_calls and now_ns - self.moved_ns > self.progress_timeout_ns
        if self._has_still_rank(before, now_ns, busy) or is_still:
            return STUCK if numbers.steps is not None else ""
        return ""

    def _has_still_rank(self, before: EngineNumbers, now_ns: int, busy: Collection[int]) -> bool:
        """One of several has requests and makes no step, whatever the others do."""
        ranks = self.latest.ranks
        if len(ranks) < 2 or len(before.ranks) != len(ranks):
            self._rank_moved_ns = [now_ns] * len(ranks)
            return False
        for rank, (old, new) in enumerate(zip(before.ranks, ranks, strict=True)):
            if rank not in busy or old.steps != new.steps:
                self._rank_moved_ns[rank] = now_ns
        return any(now_ns - moved_ns > self.progress_timeout_ns for moved_ns in self._rank_moved_ns)

    def must_prove(self, now_ns: int) -> bool:
        """It has work, counts no steps, and nothing came of it for too long."""
        return self.steps is None and now_ns - self.moved_ns > self.progress_timeout_ns
