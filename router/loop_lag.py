"""Loop lag: how late the router's loop runs what is due, measured at each tick.

Owns a window of the last lags, and all of them in buckets. No clock: whoever sleeps says how long
it took.
"""

from collections import deque
from dataclasses import dataclass

from radixroute.metrics.distribution import Distribution, Spread
from radixroute.metrics.loop_lag import BOUNDS_S

# Streams are promised no longer pause.
MAX_LAG_S = 0.02
WINDOW = 600  # ticks: a minute


@dataclass(frozen=True, slots=True)
class LoopLag:
    """Of the window, milliseconds."""

    mean_ms: float
    max_ms: float
    n_late: int  # over the limit, since the start


class LagMeter:
    """Lags of one loop."""

    def __init__(self, window: int = WINDOW) -> None:
        self._lags_s: deque[float] = deque(maxlen=window)
        self._n_late = 0
        self._seen = Distribution(BOUNDS_S)

    def observe(self, lag_s: float) -> bool:
        """Whether it is over the limit."""
        lag_s = max(0.0, lag_s)
        self._lags_s.append(lag_s)
        self._seen.observe(lag_s)
        is_late = lag_s > MAX_LAG_S
        self._n_late += is_late
        return is_late

    @property
    def lag(self) -> LoopLag:
        lags = self._lags_s
        mean_s = sum(lags) / len(lags) if lags else 0.0
        return LoopLag(mean_s * 1e3, max(lags, default=0.0) * 1e3, self._n_late)

    @property
    def spread(self) -> Spread:
        """Since the start, seconds."""
        return self._seen.spread
