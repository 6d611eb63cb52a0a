"""A quiet world has nothing left: no request, no booking, no seat taken, no doubt about a cache."""

from typing import TYPE_CHECKING

from radixroute.radix.ids import WorkerId
from tests.simulation.fleet.life import ROUTER

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


class Rest:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world

    def is_settled(self) -> bool:
        world = self._world
        if world.ledger.open or world.ledger.leases:
            return False
        if any(seen.state != "live" for seen in world.watchers.glance.workers):
            return False
        return all(
            world.watchers.index.is_right(name) and not self._seated(name)
            and not world.router.expects_blocks(name)
            for name in world.workers
        )  # fmt: skip

    def end(self) -> None:
        world, claim, seen = self._world, self._watchers.claim, self._watchers.glance
        left = list(world.ledger.open)
        claim("hang", not left, f"{left} never ended")
        states = {w.worker_id: w.state for w in seen.workers}
        wanted = dict.fromkeys(world.workers, "live")
        claim("recovery", states == wanted, f"workers end as {states}")
        for name in world.workers:
            n = seen.in_flight.get(WorkerId(name), 0)
            claim("bookings", not n, f"{name}: {n} are booked, and nothing runs")
            seated = self._seated(name)
            claim("seats freed", not seated, f"{name} still runs {seated}")
            is_expected = world.router.expects_blocks(name)
            claim("expected", not is_expected, f"blocks are still expected on {name}")
            is_right = world.watchers.index.is_right(name)
            status = world.edge.events.status(WorkerId(name))
            claim("settled", is_right, f"{name}'s stream never came to rest: {status}")

    def _seated(self, name: str) -> list[str]:
        life = self._world.workers[name].life
        if life is None:
            return []
        return [place[1] for place in life.engine.requests if place[0] == ROUTER]
