"""Trial: another policy for a share of the sessions, and back by itself where that is worse.

Owns which policy requests go by that name none, and what is known of both sides since the trial
began. A session stays on its side. The trial ends by itself once it has as many requests as asked
for and is surely worse than it may be: in mean time to first token (Welch's test of the two means,
one-sided, 97.5 %), or in hit rate. Pure: no clock, no randomness.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from radixroute.router.core.requests import Ending
from radixroute.router.errors import BadTrial
from radixroute.router.policy.registry import policy_named

_SURE: Final = 1.96
_WORD: Final = 1 << 64
# Between two looks at whether it is worse, in requests of the trial.
_LOOK_EACH: Final = 16


@dataclass(frozen=True, slots=True)
class TrialTerms:
    """What is tried, and what it may cost. Raises `BadTrial`, `UnknownPolicy`."""

    policy: str
    share: float  # of sessions, and of requests without one
    min_requests: int  # of each side, before anything is concluded
    most_times: float  # mean time to first token, times the usual policy's
    least_hits: float  # hit rate, beside the usual policy's

    def __post_init__(self) -> None:
        policy_named(self.policy)
        if not 0.0 < self.share <= 0.9:
            raise BadTrial("a trial takes a share of the sessions above 0 and up to 0.9")
        if self.min_requests < 2:
            raise BadTrial("a trial needs 2 requests or more of each side")
        if self.most_times < 1.0 or self.least_hits > 0.0:
            raise BadTrial("a trial may be as good as the usual policy: allow 1 times or more")


@dataclass(slots=True)
class Side:
    """What is known of one side."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_ms: float = 0.0  # sum
    ttft_ms_squared: float = 0.0  # sum of squares

    @property
    def mean_ms(self) -> float:
        return self.ttft_ms / self.requests if self.requests else 0.0

    @property
    def hit_rate(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def _error(self) -> float:
        """Variance of the mean."""
        n = self.requests
        spread = max(0.0, self.ttft_ms_squared - n * self.mean_ms**2)
        return spread / (n - 1) / n if n > 1 else math.inf

    def is_surely_slower(self, other: "Side", times: float) -> bool:
        """Than so many times the other's mean."""
        margin = _SURE * math.sqrt(self._error + times**2 * other._error)
        return self.mean_ms - times * other.mean_ms > margin


@dataclass(slots=True)
class TrialState:
    """One trial, for those who look."""

    terms: TrialTerms
    usual: str
    began_ns: int
    mine: Side = field(default_factory=Side)
    others: Side = field(default_factory=Side)
    ended_ns: int | None = None
    why: str = ""  # it ended


class Trials:
    """One router's: one at a time."""

    def __init__(self, usual: str) -> None:
        self.usual = usual
        self._last: TrialState | None = None
        self.stepped_back = 0  # times a trial ended by itself

    @property
    def last(self) -> TrialState | None:
        """The one that runs, or ran last."""
        return self._last

    @property
    def running(self) -> TrialState | None:
        last = self._last
        return None if last is None or last.ended_ns is not None else last

    def policy_of(self, draw: int) -> str:
        """For a request that names none; `draw`: 64 bits of its session, or of itself."""
        running = self.running
        if running is None or draw % _WORD >= running.terms.share * _WORD:
            return self.usual
        return running.terms.policy

    def begin(self, terms: TrialTerms, now_ns: int) -> None:
        """Raises `BadTrial` while another one runs, and for the usual policy."""
        if self.running is not None:
            raise BadTrial(f"{self.running.terms.policy} is being tried: end that first")
        if terms.policy == self.usual:
            raise BadTrial(f"{terms.policy} is the usual policy: there is nothing to be tried")
        self._last = TrialState(terms, self.usual, now_ns)

    def end(self, why: str, now_ns: int) -> None:
        """All go by the usual policy again. Raises `BadTrial` where none runs."""
        running = self.running
        if running is None:
            raise BadTrial("no policy is being tried")
        running.ended_ns, running.why = now_ns, why

    def keep(self, now_ns: int) -> None:
        """What was tried is the usual policy from now on. Raises `BadTrial` before there are enough
        requests of it."""
        running = self.running
        if running is None:
            raise BadTrial("no policy is being tried")
        seen, wanted = running.mine.requests, running.terms.min_requests
        if seen < wanted:
            raise BadTrial(f"{seen} requests went by it so far, and {wanted} are wanted: wait")
        self.end("it is the usual policy now", now_ns)
        self.usual = running.terms.policy

    def ended(self, ended: Ending, now_ns: int) -> None:
        """A request that was let in."""
        running = self.running
        if running is None or ended.ttft_ms is None:
            return
        terms = running.terms
        if ended.policy not in (terms.policy, running.usual):
            return
        side = running.mine if ended.policy == terms.policy else running.others
        side.requests += 1
        side.prompt_tokens += ended.prompt_tokens
        side.cached_tokens += ended.cached_tokens
        side.ttft_ms += ended.ttft_ms
        side.ttft_ms_squared += ended.ttft_ms**2
        if side is running.mine and side.requests % _LOOK_EACH == 0:
            self._judge(running, now_ns)

    def _judge(self, running: TrialState, now_ns: int) -> None:
        terms, mine, others = running.terms, running.mine, running.others
        if min(mine.requests, others.requests) < terms.min_requests:
            return
        why = ""
        if mine.is_surely_slower(others, terms.most_times):
            why = (
                f"first tokens took {mine.mean_ms:.0f} ms in the mean, and {others.mean_ms:.0f} ms"
                f" under {running.usual}"
            )
        elif mine.hit_rate - others.hit_rate < terms.least_hits:
            why = (
                f"its hit rate was {100 * mine.hit_rate:.1f} %, and {100 * others.hit_rate:.1f} %"
                f" under {running.usual}"
            )
        if why:
            self.stepped_back += 1
            self.end(why, now_ns)
