"""One worker of a fleet: its model, its life, its wires, and what befalls all of them."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.wire.records import Event
from radixroute.worker.engine.runner import ModelFacts, StepPlan, StepResult

MS = 1_000_000
SIZE = 4  # of a block, in tokens

Lie = Callable[[tuple[Event, ...]], tuple[Event, ...]]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fleet is like, and what befalls it."""

    workers: int = 3
    kv_blocks: int = 70
    talks: int = 4  # conversations that go on at a time
    seats: int = 6
    batch_tokens: int = 40
    loss: float = 0.0  # of an event batch, on its way
    drop: float = 0.0  # of a batch, at the publisher
    event_ms: float = 30.0  # the most that a batch or a reply takes, now and then
    session_ms: float = 30.0
    fails: float = 0.0  # steps
    aborts: float = 0.0
    kill_each: int = 0  # requests; 0: nobody dies
    tells_position: bool = True


class Model:
    """Samples any token; fails now and then, never three times in a row."""

    def __init__(self, shape: Shape, rng: random.Random) -> None:
        self._rng, self._fails = rng, shape.fails
        self._has_failed = False
        self.facts = ModelFacts("m", SIZE, 1 << 12, 97, (), "fa4e", "f", "cpu", shape.kv_blocks)

    def execute(self, plan: StepPlan) -> StepResult:
        fails = not self._has_failed and self._rng.random() < self._fails
        self._has_failed = fails
        if fails:
            raise RuntimeError("told to fail")
        n = sum(part.sampling is not None for part in plan.slices)
        return StepResult(tuple(self._rng.randrange(1, 97) for _ in range(n)))


@dataclass
class Life:
    """A worker's process, from its start to its end."""

    engine: Any
    stream: OutboundStream
    epoch: Any
    is_over: bool = False
    steps: bool = False
    acknowledged: int = 0
    preempted: int = 0
    progress: tuple[Any, ...] = ()


@dataclass
class Wire:
    """Keeps order and takes its time."""

    rng: random.Random
    most_ms: float
    last_ns: int = 0

    def arrival(self, now_ns: int) -> int:
        slow = self.rng.random() < 0.2
        ms = self.rng.uniform(0.1, self.most_ms) if slow else self.rng.uniform(0.1, 1.0)
        self.last_ns = max(self.last_ns + 1, now_ns + round(ms * MS))
        return self.last_ns


@dataclass
class Worker:
    name: str
    events: Wire
    replies: Wire
    session: Wire
    incarnation: int = 1
    life: Life | None = None
    told: Counter[str] = field(default_factory=Counter)
    preempted: int = 0
    false_since: int | None = None  # reports before its events had told what is not so
