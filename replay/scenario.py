"""Scenario: the fleet that a trace meets, what becomes of it, and what lies between routers and
workers. Values only.
"""

from dataclasses import dataclass, field
from typing import Final

from radixroute.replay.changes import FleetChange, check_lives
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import POLYNOMIAL, Timing
from radixroute.replay.traces.session_ends import SessionEnds

ROUND_ROBIN: Final = "round_robin"  # each request to the next router
BY_HASH: Final = "hash"  # all of a session to one router
SHARED_BY: Final = (ROUND_ROBIN, BY_HASH)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What lies between router and workers, and what is wrong with it."""

    event_delay_ms: float = 0.0  # until the router hears of a cache change
    dispatch_ms: float = 0.0  # until a request is at its worker
    prefill_bias: float = 1.0  # the router is told times wrong by this factor
    decode_bias: float = 1.0
    client_ms: float = 0.0  # that clients see more: from them to the router, from a step's end back


@dataclass(frozen=True, slots=True)
class Routers:
    """How many routers share the fleet; of more than one none knows what the others decide.

    They all hear of every cache change, and of each other's load by the workers' heartbeats alone.
    """

    n: int = 1
    by: str = ROUND_ROBIN  # of `SHARED_BY`: which router a request comes to
    heartbeat_ms: float = 250.0  # between two of one worker; with one router none is needed

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InvalidShape(f"a fleet has at least 1 router, not {self.n}")
        if self.by not in SHARED_BY:
            raise InvalidShape(f"routers are shared by {' or '.join(SHARED_BY)}, not {self.by!r}")
        if not self.heartbeat_ms > 0.0:
            raise InvalidShape("heartbeat_ms: a time above 0")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The fleet that a trace meets, and how."""

    shape: FleetShape
    timing: Timing = POLYNOMIAL
    speed: float = 1.0  # arrivals come so many times faster
    seed: int = 0  # of ties and random choices
    conditions: Conditions = field(default_factory=Conditions)
    keeps_events: bool = False  # the result then has `events`
    changes: tuple[FleetChange, ...] = ()  # of the fleet, in mid-run
    routers: Routers = field(default_factory=Routers)
    keeps_speeds: bool = False  # the result then has `learned`
    session_ends: SessionEnds = field(default_factory=SessionEnds)  # as clients tell them

    def __post_init__(self) -> None:
        check_lives(self.changes, self.shape.workers)
