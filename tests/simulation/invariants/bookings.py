"""What is booked is what runs: requests, attempts and leases as the ledger has them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


class Bookings:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._ledger = watchers.world.ledger
        self._router = watchers.world.router

    def after(self) -> None:
        ledger, seen, claim = self._ledger, self._watchers.glance, self._watchers.claim
        running, waiting = self._router.n_running, self._router.n_waiting
        n, n_waiting = len(ledger.open), ledger.n_waiting
        if running != n or waiting != n_waiting:  # a text for each input would cost as much as it
            claim("running", running == n, f"{running} requests run, not {n}")
            claim("waiting", waiting == n_waiting, f"{waiting} wait, not {n_waiting}")
        if not self._watchers.has_news:
            return
        leases = len(ledger.leases)
        claim("leases", seen.leases == leases, f"{seen.leases} leases, not {leases}")
        speaker = self._watchers.world.edge.reported_by
        if speaker is not None:
            odd = [w for w in seen.workers if w.worker_id == speaker and w.state == "suspect"]
            claim("suspicion", not odd, f"{speaker} speaks, and is suspected")
        for worker_id, n_booked in seen.in_flight.items():
            wanted = ledger.booked(worker_id)
            if n_booked == wanted:
                continue
            claim("bookings", n_booked == wanted, f"{worker_id}: {n_booked} booked, {wanted} run")
