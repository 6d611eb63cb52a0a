"""Sight: one moment of a router, for the tables. Taken in the router's loop; changes no more.

Owns which tenants have a name of their own on the page: clients choose tenants, and each new name
would be a series that Prometheus keeps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from radixroute import __version__
from radixroute.metrics.distribution import Spread
from radixroute.metrics.few_names import FewNames
from radixroute.radix.ids import WorkerId
from radixroute.router.core.snapshot import RouterSnapshot
from radixroute.router.links.event_link import StreamStatus
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings

MAX_TENANTS: Final = 64  # with a series of their own; a label value costs Prometheus some kilobytes
DEFAULT_TENANT_NAME: Final = "default"  # of requests that name none: an empty label is no label


@dataclass(frozen=True, slots=True)
class RouterSight:
    """What the router's metrics are read from."""

    core: RouterSnapshot
    tenants: Mapping[str, int]  # waiting requests; few names
    streams: Mapping[WorkerId, StreamStatus]  # of workers that have any
    loop_lag: Spread  # seconds
    dropped_items: int  # of event streams, for want of room
    index_bytes: int
    index_max_bytes: int
    memo_bytes: int  # of tokenised prompts
    rejected: Mapping[str, int]  # requests, by the field that is wrong
    version: str
    router_id: str
    policy: str


class RouterSights:
    """Looks at one router."""

    def __init__(
        self,
        runtime: RouterRuntime,
        settings: RouterSettings,
        dropped_items: Callable[[], int],
        memo_bytes: Callable[[], int],
        rejected: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._dropped_items = dropped_items
        self._memo_bytes = memo_bytes
        self._rejected = rejected
        self._tenants = FewNames(MAX_TENANTS)

    def take(self) -> RouterSight:
        """O(workers), and tenants that wait."""
        runtime, settings = self._runtime, self._settings
        core = runtime.core.snapshot()
        status = {w.worker_id: runtime.events.status(w.worker_id) for w in core.workers}
        return RouterSight(
            core=core,
            tenants=self._tenants.fold(_named(core.queue.by_tenant)),
            streams={worker_id: one for worker_id, one in status.items() if one is not None},
            loop_lag=runtime.lag_meter.spread,
            dropped_items=self._dropped_items(),
            index_bytes=runtime.index_bytes,
            index_max_bytes=settings.index_bytes,
            memo_bytes=self._memo_bytes(),
            rejected=dict(self._rejected()),
            version=__version__,
            router_id=settings.router_id,
            policy=runtime.core.trials.usual,
        )


def _named(by_tenant: Mapping[str, int]) -> dict[str, int]:
    named: dict[str, int] = {}
    for name, n in by_tenant.items():
        shown = name or DEFAULT_TENANT_NAME
        named[shown] = named.get(shown, 0) + n
    return named
