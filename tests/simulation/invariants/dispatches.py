"""Who is sent where: one attempt at a time, to a worker that is there, and has room."""

from typing import TYPE_CHECKING

from radixroute.router.messages.actions import Action, Dispatch, Grant
from tests.simulation.ledger import Client, tokens_of

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers


_MOST_DEATHS = 2
_MOST_RESUMING = 8  # prompts that a worker computes again at once
# Policies that give a worker no more than runs there at once; others may use its queue, too.
_SEATED = ("radix", "prefix_approx")


class Dispatches:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._claim = watchers.claim
        self._world = watchers.world

    def acted(self, action: Action) -> None:
        if isinstance(action, Dispatch):
            self._dispatched(action)
        elif isinstance(action, Grant):
            self._granted(action)

    def _dispatched(self, action: Dispatch) -> None:
        world, claim = self._world, self._claim
        name, worker = action.spec.request_id, action.worker_id
        client, link = world.ledger.clients[name], world.edge.links.get(worker)
        self._judge(client, worker)
        claim("lease granted", not client.spec.lease_id, f"{name} wants a lease, and is sent")
        is_next = action.attempt == client.attempt + 1
        claim("attempts", is_next, f"{name}: attempt {action.attempt} after {client.attempt}")
        claim("once begun", not client.passed, f"{name}: sent on, and its client has some of it")
        is_all = tokens_of(action.emitted) == client.got
        is_all = is_all and action.emitted_text_len == client.text_len
        claim("resume", is_all, f"{name}: sent on without what its client has")
        if link is not None and link.session is not None:
            is_higher = action.dispatch_seq > link.session.dispatch_seq
            claim("dispatch seq", is_higher, f"{name}: seq {action.dispatch_seq} again")
            link.session.dispatch_seq = action.dispatch_seq
        claim("deaths", client.deaths < _MOST_DEATHS, f"{name} may kill a third worker")
        claim("retries", client.errors < 2, f"{name} is tried again after two errors")
        if client.tried:
            self._judge_tried(client, worker)
            self._judge_pace(client, worker)

    def _granted(self, grant: Grant) -> None:
        world, claim, name = self._world, self._claim, grant.request_id
        client, link = world.ledger.clients[name], world.edge.links.get(grant.worker_id)
        self._judge(client, grant.worker_id)
        is_asked = grant.lease_id == client.spec.lease_id
        claim("lease granted", is_asked, f"{name} gets a lease that it did not ask for")
        is_there = link is not None and link.spec.address == grant.address
        claim("lease granted", is_there, f"{name} is sent to {grant.address}")
        is_possible = 0 <= grant.overlap_tokens <= len(client.spec.prompt)
        claim("lease granted", is_possible, f"{name}: {grant.overlap_tokens} tokens cached")

    def _judge(self, client: Client, worker: str) -> None:
        """A request or a lease gets a worker."""
        world, claim, name = self._world, self._claim, client.request_id
        link = world.edge.links.get(worker)
        has_session = link is not None and link.session is not None
        claim("session", has_session, f"{name} is sent to {worker}, which has no session")
        claim("ends once", client.end is None, f"{name}: dispatched after its end")
        claim("one attempt", client.worker is None, f"{name} is sent twice")
        self._judge_seats(client, worker)
        standing = world.ledger.standing
        claim("full", worker not in standing.full, f"{name} is sent to {worker}, which is full")
        if worker in standing.ejected:
            live = self._live(client)
            may_go = worker in standing.usable(live)
            claim("breaker", may_go, f"{name} is sent to {worker}, which fails what it is given")
        self._watchers.order.judge(client)

    def _judge_seats(self, client: Client, worker: str) -> None:
        """As far as the worker has told of them."""
        plan, n = self._world.workers[worker].plan, self._world.ledger.booked(worker)
        if plan.says_seats and plan.says_queue:
            room = plan.seats + plan.queue_len
            text = f"{worker} has room for {room} and {n} requests, and gets {client.request_id}"
            self._claim("seats", n < room, text)
        is_planned = client.spec.policy in _SEATED and not client.is_lost
        if plan.says_seats and is_planned:
            text = f"{worker} runs {plan.seats} at once, has {n}, and gets {client.request_id}"
            self._claim("seats", n < plan.seats, text)

    def _judge_tried(self, client: Client, worker: str) -> None:
        """Not where it lost its session, as long as somebody else can be chosen."""
        ledger = self._world.ledger
        epochs = ledger.epochs
        if (worker, epochs.get(worker, "")) not in client.tried:
            return
        usable = ledger.standing.usable(self._live(client))
        others = [w for w in usable if (w, epochs.get(w, "")) not in client.tried]
        self._claim("tried", not others, f"{client.request_id} goes back to {worker}, not {others}")

    def _judge_pace(self, client: Client, worker: str) -> None:
        there = self._world.ledger.running.get(worker, {}).values()
        n = sum(other.is_resuming for other in there)
        text = f"{client.request_id} is the {n + 1}th prompt that {worker} computes again"
        self._claim("pace", n < _MOST_RESUMING, text)

    def _live(self, client: Client) -> list[str]:
        """Those of them that have what it needs."""
        world, need = self._world, client.spec.need
        live = [seen.worker_id for seen in world.router.glance().workers if seen.state == "live"]
        return [worker for worker in live if world.serves(worker, need)]
