"""Warm-up: loads every kernel of the policies, so that no request waits for one.

`RouterService` calls it at start-up, beside `events.warm`; so does `radixroute warm`.
"""

from radixroute.router.policy import forecast
from radixroute.router.policy.radix import scores
from radixroute.router.workers import speed


def warm() -> None:
    forecast.kernels()
    scores.kernels()
    speed.kernels()
