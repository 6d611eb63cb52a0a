"""Insight of one router: an `Observer` made of readers.

Owns the readers and the order in which they read; counts what the tape had no room for. A reader
that fails is a fault of ours: it is taken off, said once in the log and counted, and the router
goes on.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from radixroute.insight.access_log import AccessLog
from radixroute.insight.misses.reader import Misses
from radixroute.insight.reader import Reader
from radixroute.insight.service import InsightServer
from radixroute.insight.settings import InsightSettings
from radixroute.insight.shadow.shadows import Shadows
from radixroute.insight.warm import warm
from radixroute.metrics.metric import Kind, Metric, one
from radixroute.metrics.page import Part
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.router.api.http.routes import DoorPages
from radixroute.router.core.logs.tape import Record, Tape
from radixroute.router.messages.inputs import NS_PER_S
from radixroute.router.observer import Observed

_log = logging.getLogger(__name__)


class Insight:
    """Implements `Observer`."""

    def __init__(self, tape: Tape, readers: Iterable[Reader]) -> None:
        self._tape = tape
        self._readers = list(readers)
        self._n_failed = 0
        own = Part(INSIGHT_METRICS, lambda: self)
        self._parts = (own, *(part for reader in self._readers for part in reader.parts))

    @property
    def n_dropped(self) -> int:
        """Records that found no room on the tape."""
        return self._tape.n_dropped

    @property
    def n_failed(self) -> int:
        """Readers that were taken off."""
        return self._n_failed

    @property
    def parts(self) -> Sequence[Part[Any]]:
        return self._parts

    @property
    def pages(self) -> DoorPages | None:
        return None

    def add_to(self, server: grpc.aio.Server) -> None:
        rpc.add_InsightServicer_to_server(InsightServer(self._readers), server)

    def observe(self, records: Sequence[Record], now_ns: int) -> None:
        for reader in tuple(self._readers):
            try:
                reader.read(records, now_ns)
            except Exception:  # noqa: BLE001 - whoever looks on must not end who is looked at
                _log.exception("%s fails and looks on no more", type(reader).__name__)
                self._readers.remove(reader)
                self._n_failed += 1

    async def stop(self) -> None:
        for reader in tuple(self._readers):
            await reader.stop()
        self._readers.clear()


@dataclass(frozen=True, slots=True)
class InsightOf:
    """Implements `ObserverOf`."""

    settings: InsightSettings

    def warm(self) -> None:
        if self.settings.misses_bytes:
            warm()

    def __call__(self, observed: Observed) -> Insight:
        return Insight(observed.tape, _readers(observed, self.settings))


def observed_by(settings: InsightSettings) -> InsightOf | None:
    """For `RouterService`. None: nobody looks on."""
    return InsightOf(settings) if settings.enabled else None


def _readers(observed: Observed, settings: InsightSettings) -> Iterator[Reader]:
    if settings.access_log:
        yield AccessLog()
    if settings.misses_bytes:
        yield Misses(
            observed,
            max_bytes=settings.misses_bytes,
            window_ns=round(settings.misses_window_s * NS_PER_S),
        )
    if settings.shadows:
        yield Shadows(
            observed,
            settings.shadows,
            lag_ns=round(settings.shadow_lag_s * NS_PER_S),
            window_ns=round(settings.shadow_window_s * NS_PER_S),
        )


INSIGHT_METRICS: Final[tuple[Metric[Insight], ...]] = (
    Metric(
        "radixroute_tape_records_dropped_total",
        Kind.COUNTER,
        "What the router did and nobody who looks on was told, for want of room",
        lambda seen: one(seen.n_dropped),
    ),
    Metric(
        "radixroute_insight_readers_failed",
        Kind.GAUGE,
        "Parts of what looks on that failed and were taken off; the log has why",
        lambda seen: one(seen.n_failed),
    ),
)
