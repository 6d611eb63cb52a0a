"""Losses: the time that requests of one run lost, and to what. Pure.

A request loses the time it waited (at the router, then at the worker) and, of the time its prompt
was computed, the part that went into tokens some cache had held or was about to hold:

    lost ms = router ms + queue ms + compute ms * again / (all tokens it had to compute)

*again*: its missed tokens but those of `UNAVOIDABLE`, which no cache could have served. Requests
that were never answered have no such time; whoever shows this says how many they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from radixroute.replay.arrays import Floats
from radixroute.replay.report.figures import ttft_parts
from radixroute.replay.report.report import ReportedRun

# Classes of missed tokens (`analysis/misses.py`) that no cache could have served.
UNAVOIDABLE = frozenset({"never_seen", "partial_block", "last_token"})
_LEAST = 0.01  # of its TTFT: less is no loss worth telling


@dataclass(frozen=True, slots=True)
class LostRequest:
    """One answered request; times in milliseconds."""

    index: int  # in the trace
    arrival_s: float
    worker: int
    input_tokens: int
    cached_tokens: int
    ttft_ms: float
    router_ms: float
    queue_ms: float
    again_ms: float
    again_tokens: Mapping[str, int]  # by class, most first

    @property
    def lost_ms(self) -> float:
        return self.router_ms + self.queue_ms + self.again_ms


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one run: its worst requests, and what all lost together, ms."""

    worst: tuple[LostRequest, ...]
    router_ms: float
    queue_ms: float
    again_ms: float
    ttft_ms: float  # of all answered requests together

    @property
    def lost_ms(self) -> float:
        return self.router_ms + self.queue_ms + self.again_ms


def is_avoidable(name: str) -> bool:
    """Whether some cache could have served missed tokens of this class."""
    return name not in UNAVOIDABLE


def losses(run: ReportedRun, most: int = 8) -> Losses:
    """At most so many requests, the largest loss first; none that lost next to nothing."""
    result = run.result
    answered = np.flatnonzero(result.first_ns >= 0)
    parts = ttft_parts(result)
    again_ms = parts.compute_ms * _again_share(run)[answered]
    lost = parts.router_ms + parts.queue_ms + again_ms
    ttft = parts.router_ms + parts.queue_ms + parts.compute_ms
    # Ties by place in the trace, so that equal runs tell equal lists.
    ranked = np.lexsort((answered, -lost))
    worst = ranked[lost[ranked] > _LEAST * ttft[ranked]][:most].tolist()
    rows = tuple(
        LostRequest(
            index=int(answered[at]),
            arrival_s=float(result.arrival_ns[answered[at]]) / 1e9,
            worker=int(result.worker[answered[at]]),
            input_tokens=int(result.trace.input_tokens[answered[at]]),
            cached_tokens=int(result.cached_tokens[answered[at]]),
            ttft_ms=float(result.first_ns[answered[at]] - result.arrival_ns[answered[at]]) / 1e6,
            router_ms=float(parts.router_ms[at]),
            queue_ms=float(parts.queue_ms[at]),
            again_ms=float(again_ms[at]),
            again_tokens=_again_tokens(run, int(answered[at])),
        )
        for at in worst
    )
    return Losses(
        rows,
        float(parts.router_ms.sum()),
        float(parts.queue_ms.sum()),
        float(again_ms.sum()),
        float(ttft.sum()),
    )


def _again_share(run: ReportedRun) -> Floats:
    """Of the tokens that each request had to compute; shape (requests,)."""
    n = len(run.result.trace)
    again, computed = np.zeros(n), np.zeros(n)
    for name, tokens in run.request_losses.items():
        computed += tokens
        if is_avoidable(name):
            again += tokens
    return np.asarray(again / np.maximum(computed, 1), np.float64)


def _again_tokens(run: ReportedRun, request: int) -> dict[str, int]:
    found = [
        (name, int(tokens[request]))
        for name, tokens in run.request_losses.items()
        if is_avoidable(name) and tokens[request]
    ]
    return dict(sorted(found, key=lambda one: -one[1]))
