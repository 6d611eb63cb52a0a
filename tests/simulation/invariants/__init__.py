"""Invariants: what must hold after every input to the router, and once everything is over.

A file for each kind. `acted` sees an action before it is performed, `after` the router after each
input, `end` the quiet world. A broken one raises `Broken`, unless its claim is a known fault.

    streams.py      each request ends once; its positions are contiguous, its tokens right
    dispatches.py   who is sent where
    credit.py       each decision gives credit for what the index says
    scopes.py       scopes share no block, adapters are served where their requests go
    order.py        in what order those that wait get a worker
    bookings.py     what is booked is what runs
    index.py        the index is what the events said; who is believed
    audit.py        who told the truth of its cache keeps its credit
    waiting.py      nobody waits for ever, or while somebody idles
    shares.py       workers that are alike have about as much to do
    cost.py         what an input costs does not grow with how many wait
    counters.py     the counters add up, nothing is dropped without one
    memory.py       what is kept is bounded
    rest.py         a quiet world has nothing left
"""

from collections import Counter
from typing import TYPE_CHECKING

from radixroute.events.errors import EventError
from radixroute.radix.errors import BrokenInvariant
from radixroute.router.messages.actions import Action
from tests.simulation.invariants.audit import Audits
from tests.simulation.invariants.bookings import Bookings
from tests.simulation.invariants.cost import Costs
from tests.simulation.invariants.counters import Counts
from tests.simulation.invariants.credit import Credits
from tests.simulation.invariants.dispatches import Dispatches
from tests.simulation.invariants.index import IndexTruth
from tests.simulation.invariants.known import KNOWN_FAULTS, Broken
from tests.simulation.invariants.memory import Memory
from tests.simulation.invariants.order import Order
from tests.simulation.invariants.rest import Rest
from tests.simulation.invariants.scopes import Scopes
from tests.simulation.invariants.shares import Shares
from tests.simulation.invariants.streams import Streams
from tests.simulation.invariants.waiting import Waiting

if TYPE_CHECKING:
    from tests.simulation.world import World

# Inputs between two looks at the router's own checks and all that it shows; and, for those after
# which it did nothing, between two glances at it.
_SLOW_EACH = 32
_IDLE_EACH = 4


class Watchers:
    """All invariants of one world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.known: Counter[str] = Counter()
        self.glance = world.router.glance()
        self.n_inputs = 0
        self.has_news = True  # whether there is another glance since the last input
        self._rest = Rest(self)
        self.index = IndexTruth(self)
        self.order = Order(self)
        self.waiting = Waiting(self)
        self.costs = Costs(self)
        kinds = (
            Streams(self), Dispatches(self), self.order, Bookings(self), self.index,
            Audits(self), self.waiting, Counts(self), Memory(self), Credits(self), Scopes(self),
            Shares(self), self._rest,
        )  # fmt: skip
        self._acted = [kind.acted for kind in kinds if hasattr(kind, "acted")]
        self._after = [kind.after for kind in kinds if hasattr(kind, "after")]
        self._end = [kind.end for kind in kinds if hasattr(kind, "end")]
        if world.plan.is_metered:
            self._acted.append(self.costs.acted)
            self._after.append(self.costs.after)

    @property
    def is_slow_turn(self) -> bool:
        return self.n_inputs % _SLOW_EACH == 0

    def claim(self, name: str, holds: bool, text: str) -> None:
        """What must hold. `name` is what a known fault would be filed under."""
        if holds:
            return
        if name not in KNOWN_FAULTS:
            raise Broken(name, text)
        self.known[name] += 1

    def acted(self, action: Action) -> None:
        for see in self._acted:
            see(action)

    def after(self) -> None:
        self.n_inputs += 1
        edge = self.world.edge
        self.has_news = edge.has_acted or edge.is_tick or self.n_inputs % _IDLE_EACH == 0
        if self.has_news:
            self.glance = self.world.router.glance()
        for look in self._after:
            look()
        if self.is_slow_turn:
            self.check_parts()

    def end(self) -> None:
        self.glance = self.world.router.glance()
        self.check_parts()
        for look in self._end:
            look()

    def check_parts(self) -> None:
        """The product's own checks."""
        try:
            self.world.router.check()
        except (BrokenInvariant, EventError) as error:
            raise Broken("own check", str(error)) from error

    def is_settled(self) -> bool:
        return self._rest.is_settled()


__all__ = ["KNOWN_FAULTS", "Broken", "Watchers"]
