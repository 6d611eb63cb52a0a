"""Comparison: what each shadow made of the same requests, beside what really happened.

Owns sums in buckets of time, as many as the window has. A difference is estimated between two
shadows, which share all that is wrong with the method: the policy's and that of the live policy.
How wrong the method is, is the latter beside reality. Limits are 95 %, from leaving one bucket out
at a time (the jackknife of a ratio; Efron and Tibshirani, An Introduction to the Bootstrap, ch.
11): requests of one moment share its queues, buckets hardly do. Pure.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.insight.shadow.messages import Live, Result

BUCKET_NS: Final = 10_000_000_000
LEAST_BUCKETS: Final = 6  # below that nothing is said about how sure an estimate is
MAX_OPEN: Final = 1 << 15  # requests that some shadow has not come to
_NORMAL: Final = 1.96

Floats: TypeAlias = NDArray[np.float64]
# What is told of one policy's sums beside another's.
_Statistic: TypeAlias = Callable[[Floats, Floats], float]

# Sums of one bucket and one policy.
_N, _PROMPT, _CACHED, _TTFT, _FLIPS = range(5)
_N_SUMS: Final = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and how far off it may be; `margin` None: too little was seen to say."""

    value: float
    margin: float | None


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """One shadow over the window, or, with `is_live`, what really happened."""

    policy: str
    is_live: bool
    requests: int
    hit_rate: float
    ttft_ms: float  # mean, of requests that had a first token live, too
    flips: int  # decisions that were others than the live router's
    # Times the shadow of the live policy: 0.9 is a tenth sooner. Of that shadow itself: times what
    # really happened, which is the error of the method.
    ttft_times: Estimate
    hit_rate_more: Estimate  # than it, in the same sense


@dataclass(slots=True)
class _Open:
    live: Live
    arrival_ns: int
    prompt_tokens: int
    results: dict[int, Result]


class Comparison:
    """Of one set of shadows. The first policy is the live one."""

    def __init__(self, policies: Sequence[str], window_ns: int) -> None:
        self._policies = tuple(policies)
        self._most_buckets = max(1, window_ns // BUCKET_NS)
        self._open: OrderedDict[int, _Open] = OrderedDict()
        # By bucket: rows are reality and then the policies, shape (1 + policies, sums).
        self._buckets: OrderedDict[int, Floats] = OrderedDict()
        self.n_unmatched = 0  # requests that not every shadow answered

    def asked(self, tag: int, live: Live, *, arrival_ns: int, prompt_tokens: int) -> None:
        """What really happened with a request that shadows are fed with now."""
        self._open[tag] = _Open(live, arrival_ns, prompt_tokens, {})
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
            self.n_unmatched += 1

    def answered(self, results: Iterable[Result], running: int) -> None:
        """`running`: shadows that have not failed."""
        for result in results:
            one = self._open.get(result.tag)
            if one is None:
                continue
            one.results[result.policy] = result
            if len(one.results) >= running:
                del self._open[result.tag]
                self._count(one)

    def figures(self) -> list[ShadowFigures]:
        """Reality, then the shadows in order. O(buckets x policies)."""
        sums = np.array(list(self._buckets.values())).reshape(-1, 1 + len(self._policies), _N_SUMS)
        found = [self._figures(sums, 0, 0)]
        for row in range(1, 1 + len(self._policies)):
            found.append(self._figures(sums, row, 0 if row == 1 else 1))
        return found

    def results_of(self, tag: int) -> Mapping[int, Result]:
        """Of a request that not all have come to yet, by policy."""
        one = self._open.get(tag)
        return {} if one is None else one.results

    def _count(self, one: _Open) -> None:
        if one.live.ttft_ns < 0 or one.live.cached_tokens < 0:
            return  # it never ran: there is nothing to be compared with
        number = one.arrival_ns // BUCKET_NS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = np.zeros((1 + len(self._policies), _N_SUMS))
            while len(self._buckets) > self._most_buckets:
                self._buckets.popitem(last=False)
        live = one.live
        bucket[0] += (1, one.prompt_tokens, live.cached_tokens, live.ttft_ns / 1e6, 0)
        for policy, result in one.results.items():
            flips = result.worker != live.worker
            row = (1, one.prompt_tokens, result.cached_tokens, result.ttft_ns / 1e6, flips)
            bucket[1 + policy] += row

    def _figures(self, sums: Floats, row: int, base: int) -> ShadowFigures:
        n, prompt, cached, ttft, flips = sums[:, row].sum(axis=0).tolist()
        is_live = row == 0
        return ShadowFigures(
            policy=self._policies[0] if is_live else self._policies[row - 1],
            is_live=is_live,
            requests=int(n),
            hit_rate=cached / prompt if prompt else 0.0,
            ttft_ms=ttft / n if n else 0.0,
            flips=int(flips),
            ttft_times=_estimate(sums, row, base, _times),
            hit_rate_more=_estimate(sums, row, base, _more),
        )


def _times(mine: Floats, other: Floats) -> float:
    """Mean TTFT, times the other's."""
    if not (mine[_N] and other[_N] and other[_TTFT]):
        return math.nan
    return float(mine[_TTFT] / mine[_N] / (other[_TTFT] / other[_N]))


def _more(mine: Floats, other: Floats) -> float:
    """Hit rate, less the other's."""
    if not (mine[_PROMPT] and other[_PROMPT]):
        return math.nan
    return float(mine[_CACHED] / mine[_PROMPT] - other[_CACHED] / other[_PROMPT])


def _estimate(sums: Floats, row: int, base: int, of: _Statistic) -> Estimate:
    mine, other = sums[:, row], sums[:, base]
    value = of(mine.sum(axis=0), other.sum(axis=0))
    n = len(sums)
    if row == base or n < LEAST_BUCKETS or math.isnan(value):
        return Estimate(value, None)
    total, total_other = mine.sum(axis=0), other.sum(axis=0)
    left_out = np.array([of(total - mine[i], total_other - other[i]) for i in range(n)])
    spread = (n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum())
    return Estimate(value, _NORMAL * math.sqrt(spread))
