"""Misses of one router: the tape's reader, and what is shown of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from radixroute.insight.misses.attribution import Attribution
from radixroute.insight.misses.sums import MINUTE_NS, MissSums, Tokens
from radixroute.insight.misses.view import MissView, view_of
from radixroute.metrics.page import Part
from radixroute.radix.ids import WorkerId
from radixroute.router.core.logs.tape import Record
from radixroute.router.observer import Observed

SETTLE_NS: Final = 500_000_000  # two heartbeats: what was before has been heard by then
LOOK_NS: Final = 250_000_000  # between two looks


@dataclass(frozen=True, slots=True)
class MissesSeen:
    """For metrics: all since the router started. Shapes (columns of `sums`,)."""

    totals: dict[WorkerId, Tokens]
    unattributed: dict[str, int]
    n_blocks: int
    n_bytes: int
    n_forgotten: int
    n_without_room: int


class Misses:
    """Implements `Reader`."""

    def __init__(self, observed: Observed, *, max_bytes: int, window_ns: int) -> None:
        self._observed = observed
        self._sums = MissSums(max(1, window_ns // MINUTE_NS))
        self.attribution = Attribution(max_bytes, SETTLE_NS, self._sums)
        self._now_ns = self._looked_ns = 0

    @property
    def parts(self) -> Sequence[Part[Any]]:
        from radixroute.insight.misses.metrics import MISS_METRICS

        return (Part(MISS_METRICS, self.seen),)

    def read(self, records: Sequence[Record], now_ns: int) -> None:
        self._now_ns = now_ns
        self.attribution.read(records)
        if now_ns >= self._looked_ns + LOOK_NS:
            self._looked_ns = now_ns
            self.attribution.settle(now_ns)

    async def stop(self) -> None:
        """There is nothing to be ended."""

    def seen(self) -> MissesSeen:
        blocks = self.attribution.blocks
        return MissesSeen(
            totals={worker: tokens.copy() for worker, tokens in self._sums.totals.items()},
            unattributed=dict(self._sums.unattributed),
            n_blocks=len(blocks),
            n_bytes=blocks.n_bytes,
            n_forgotten=blocks.n_forgotten,
            n_without_room=blocks.n_without_room,
        )

    def view(self, window_s: float) -> MissView:
        """O(minutes x who they are of)."""
        workers = self._observed.runtime.core.snapshot().workers
        pools = [one.kv_blocks_total for one in workers if one.kv_blocks_total]
        served = self._observed.runtime.handshake.served
        block_size = 16 if served is None else served.facts.block_size
        pool = round(sum(pools) / len(pools)) if pools else 0
        minutes = self._sums.within(round(window_s * 1e9), self._now_ns)
        return view_of(minutes, pool, block_size, self._now_ns)
