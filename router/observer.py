"""Observer: the seam for whoever looks at a live router and shows what it sees.

Owns nothing. An observer is told all that the router does, from its tape, in its loop; it may add
metrics, pages and services to the router's own, and never changes what the router does. The room
`insight` has the one there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from radixroute.metrics.page import Part
from radixroute.router.api.http.routes import DoorPages
from radixroute.router.core.logs.tape import Record, Tape
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Observed:
    """The router that is looked at. To be read, in its loop alone."""

    runtime: RouterRuntime
    settings: RouterSettings
    tape: Tape


class Observer(Protocol):
    """One router's, from before it serves anything. All is called in the router's loop."""

    @property
    def parts(self) -> Sequence[Part[Any]]:
        """Metrics beside the router's own."""
        ...

    @property
    def pages(self) -> DoorPages | None:
        """Pages of the HTTP door beside its own."""
        ...

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds services to the gRPC door, which is not started yet."""
        ...

    def observe(self, records: Sequence[Record], now_ns: int) -> None:
        """What the router did since the last call, in order; at least each tick, also if nothing.

        O(records): the router answers nobody meanwhile.
        """
        ...

    async def stop(self) -> None:
        """Last of all. Idempotent."""
        ...


class ObserverOf(Protocol):
    """Makes the observer of a router that is about to start; it may fail to, and be made again."""

    def warm(self) -> None:
        """Whatever takes long the first time; in a thread, before the router serves."""
        ...

    def __call__(self, observed: Observed) -> Observer: ...
