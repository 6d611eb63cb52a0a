"""Scenario: the fleet that a trace meets, and what lies between router and workers. Values only."""

from dataclasses import dataclass, field

from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import POLYNOMIAL, Timing


@dataclass(frozen=True, slots=True)
class Conditions:
    """What lies between router and workers, and what is wrong with it."""

    event_delay_ms: float = 0.0  # until the router hears of a cache change
    dispatch_ms: float = 0.0  # until a request is at its worker
    prefill_bias: float = 1.0  # the router is told times wrong by this factor
    decode_bias: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """The fleet that a trace meets, and how."""

    shape: FleetShape
    timing: Timing = POLYNOMIAL
    speed: float = 1.0  # arrivals come so many times faster
    seed: int = 0  # of ties and random choices
    conditions: Conditions = field(default_factory=Conditions)
    keeps_events: bool = False  # the result then has `events`
