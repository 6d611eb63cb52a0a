"""Session wire: the seam between a link and what its worker session travels on."""

from collections.abc import Callable
from typing import Protocol

from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.messages.inputs import StepReport


class SessionEnded(Exception):
    """The worker ended the session, or it broke; the text says which."""


class SessionWire(Protocol):
    """One worker session, from `open` to `close`. In one event loop."""

    async def open(self, hello: pb.OpenSession) -> None:
        """Raises JoinRefused, SessionEnded, `grpc.RpcError` or OSError."""

    def send(self, message: pb.EngineRequest) -> None:
        """In order; never waits. What may wait in it is bounded by the requests in flight: a worker
        that stops reading stops its heartbeats or is dropped with its session."""

    async def relay(self, received: Callable[[StepReport], None]) -> None:
        """Hands on what comes, always, until the session is over. Raises how it broke."""

    def close(self) -> None:
        """Idempotent."""
