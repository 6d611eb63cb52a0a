"""Latencies: how long requests that ended had waited and run, by how they ended.

Owns the buckets. A request counts once, at its end, with what it reached: one that never got a
token has no time to it. A lease's request, which runs elsewhere, and a stream that began at another
router do not count: nobody here knows their whole time. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from radixroute.metrics.distribution import Distribution, Spread
from radixroute.router.core.requests import Request

# Seconds: from a cached prompt's first token to the longest answer that the defaults allow.
WAIT_BOUNDS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
TOKEN_BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5),
)


@dataclass(frozen=True, slots=True)
class EndLatencies:
    """Of requests with one outcome, in seconds."""

    queue: Spread  # arrival to first dispatch
    first_token: Spread  # arrival to first token
    token: Spread  # first token to end, for each token after the first; one value a request
    whole: Spread  # arrival to end


class _Of:
    """One outcome."""

    __slots__ = ("first_token", "queue", "token", "whole")

    def __init__(self) -> None:
        self.queue, self.first_token = Distribution(WAIT_BOUNDS_S), Distribution(WAIT_BOUNDS_S)
        self.token, self.whole = Distribution(TOKEN_BOUNDS_S), Distribution(WAIT_BOUNDS_S)


class Latencies:
    """Of one router's requests."""

    def __init__(self) -> None:
        self._by_outcome: dict[str, _Of] = {}

    def ended(self, request: Request, outcome: str, now_ns: int) -> None:
        """Once for each request."""
        if request.spec.resumed is not None:
            return
        of = self._by_outcome.get(outcome)
        if of is None:
            of = self._by_outcome[outcome] = _Of()
        arrival_ns, first_ns = request.spec.arrival_ns, request.first_token_ns
        of.whole.observe((now_ns - arrival_ns) / 1e9)
        if request.dispatched_ns is not None:
            of.queue.observe((request.dispatched_ns - arrival_ns) / 1e9)
        if first_ns is None:
            return
        of.first_token.observe((first_ns - arrival_ns) / 1e9)
        if request.output_tokens > 1:
            of.token.observe((now_ns - first_ns) / 1e9 / (request.output_tokens - 1))

    def by_outcome(self) -> Mapping[str, EndLatencies]:
        return {
            outcome: EndLatencies(
                of.queue.spread, of.first_token.spread, of.token.spread, of.whole.spread
            )
            for outcome, of in self._by_outcome.items()
        }
