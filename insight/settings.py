"""Settings of what is seen of a live router: a frozen record with its defaults and units."""

from dataclasses import dataclass

from radixroute.insight.errors import BadInsightSetting
from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.registry import policy_named


@dataclass(frozen=True, slots=True)
class InsightSettings:
    """What is kept of a router's work, and for how long."""

    enabled: bool = True  # False: nobody looks on, and nothing is kept
    access_log: bool = False  # one line a request, when it ends: `radixroute.access` in the log
    # Why prompt tokens were missed: memory of what is kept of blocks; 0: nobody asks why.
    misses_bytes: int = 32 << 20
    misses_window_s: float = 3600.0  # that can be looked back over
    # Policies that are asked, too, what the router is asked, and never act; each takes some of a
    # core. The live policy's own shadow is added.
    shadows: tuple[str, ...] = ()
    shadow_lag_s: float = 60.0  # an answer that takes longer is thought to be of a usual length
    shadow_window_s: float = 900.0  # over which shadows are compared

    def __post_init__(self) -> None:
        if self.misses_bytes < 0:
            raise BadInsightSetting("misses_bytes", "must not be negative")
        for name in ("misses_window_s", "shadow_lag_s", "shadow_window_s"):
            if not getattr(self, name) > 0:
                raise BadInsightSetting(name, "must be greater than 0")
        for policy in self.shadows:
            try:
                policy_named(policy)
            except UnknownPolicy as error:
                raise BadInsightSetting("shadows", f"has {policy!r}: {error}") from None
