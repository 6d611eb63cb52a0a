"""Page: the worker's GET /metrics with what only it measures: sums over steps, and the loop's lag.

Owns the listening port and both measures. The rest of a look is the service's to give.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from radixroute.events.net.bind import is_loopback
from radixroute.metrics.loop_lag import LoopLag
from radixroute.metrics.page import Part
from radixroute.metrics.server import MetricsServer
from radixroute.worker.api.meter import Meter
from radixroute.worker.api.metrics import WORKER_METRICS, WorkerSight
from radixroute.worker.errors import PortInUse
from radixroute.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


class WorkerPage:
    """Of one worker. `start` once it has an engine; it may have no page at all."""

    def __init__(self, settings: WorkerSettings, is_idle: Callable[[], bool]) -> None:
        """`is_idle`: no caller waits for anything of its worker."""
        self._settings = settings
        self.meter = Meter()
        self.lag = LoopLag(time.monotonic_ns, is_idle)
        self.port: int | None = None  # None: no page, or not started
        self._server: MetricsServer | None = None

    @property
    def address(self) -> str:
        """host:port; empty: no page."""
        if self.port is None:
            return ""
        host = _host(self._settings)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def start(self, look: Callable[[], WorkerSight], more: Sequence[Part[Any]] = ()) -> None:
        """`more`: what its engine shows beside. Raises PortInUse."""
        host, port = _host(self._settings), self._settings.metrics_port
        if port is None:
            return
        self._server = MetricsServer(Part(WORKER_METRICS, look), *more)
        try:
            self.port = await self._server.start(host, port)
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port} for metrics: {error.strerror};"
                " choose another worker.metrics_port, or none for no page"
            ) from error
        self.lag.start()
        _log.info("metrics are at http://%s/metrics", self.address)

    async def stop(self) -> None:
        """Idempotent."""
        await self.lag.stop()
        if self._server is not None:
            await self._server.stop()


def _host(settings: WorkerSettings) -> str:
    """That page asks nobody who he is: what is guarded elsewhere is not shown to others here."""
    is_open = settings.insecure_bind or is_loopback(settings.host)
    return settings.host if is_open else LOOPBACK
