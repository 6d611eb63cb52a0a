"""Who is sent where: one attempt at a time, to a worker that is there, and has a seat."""

from typing import TYPE_CHECKING

from radixroute.router.messages.actions import Action, Dispatch
from tests.simulation.ledger import Client, tokens_of

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


_MOST_DEATHS = 2


class Dispatches:
    def __init__(self, watchers: "Watchers") -> None:
        self._claim = watchers.claim
        self._world = watchers.world

    def acted(self, action: Action) -> None:
        if not isinstance(action, Dispatch):
            return
        world, claim = self._world, self._claim
        name, worker = action.spec.request_id, action.worker_id
        client, link = world.ledger.clients[name], world.edge.links.get(worker)
        has_session = link is not None and link.session is not None
        claim("session", has_session, f"{name} is sent to {worker}, which has no session")
        claim("ends once", client.end is None, f"{name}: dispatched after its end")
        claim("one attempt", client.worker is None, f"{name} is sent twice")
        is_next = action.attempt == client.attempt + 1
        claim("attempts", is_next, f"{name}: attempt {action.attempt} after {client.attempt}")
        is_all = tokens_of(action.emitted) == client.got
        is_all = is_all and action.emitted_text_len == client.text_len
        claim("resume", is_all, f"{name}: sent on without what its client has")
        if link is not None and link.session is not None:
            is_higher = action.dispatch_seq > link.session.dispatch_seq
            claim("dispatch seq", is_higher, f"{name}: seq {action.dispatch_seq} again")
            link.session.dispatch_seq = action.dispatch_seq
        claim("deaths", client.deaths < _MOST_DEATHS, f"{name} may kill a third worker")
        if client.tried:
            self._judge_tried(client, worker)
        n, seats = world.ledger.booked(worker), world.workers[worker].plan.seats
        claim("seats", n < seats, f"{worker} has {seats} seats and {n} requests, and gets {name}")
        self._count_overtaken(client)

    def _judge_tried(self, client: Client, worker: str) -> None:
        """Not where it lost its session, as long as somebody else lives."""
        epochs = self._world.ledger.epochs
        if (worker, epochs.get(worker, "")) not in client.tried:
            return
        live = [w.worker_id for w in self._world.router.snapshot().workers if w.state == "live"]
        others = [w for w in live if (w, epochs.get(w, "")) not in client.tried]
        self._claim("tried", not others, f"{client.request_id} goes back to {worker}, not {others}")

    def _count_overtaken(self, client: Client) -> None:
        if client.attempt:
            return
        for other in self._world.ledger.open.values():
            if other.number < client.number and other.worker is None:
                other.overtaken += 1
