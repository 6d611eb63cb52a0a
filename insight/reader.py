"""Reader: the seam between a router's tape and one thing that is made of it.

A reader owns what it keeps, bounded by its settings. It is called in the router's loop, for all
that happened since the last time, so whatever takes long is done elsewhere.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from radixroute.metrics.page import Part
from radixroute.router.core.logs.tape import Record


class Reader(Protocol):
    """One of a router's."""

    @property
    def parts(self) -> Sequence[Part[Any]]:
        """Its metrics."""
        ...

    def read(self, records: Sequence[Record], now_ns: int) -> None:
        """What happened since the last call, in order; some times a second, also if nothing."""
        ...

    async def stop(self) -> None:
        """Last of all. Idempotent."""
        ...
