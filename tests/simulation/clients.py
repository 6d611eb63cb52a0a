"""Clients: what they ask for, when they have had enough, and what they do with leases."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from radixroute.router.messages.actions import Abort, Grant
from radixroute.router.messages.inputs import RequestSpec
from tests.simulation import adapter, deeds
from tests.simulation.agenda import MS
from tests.simulation.ledger import Client

if TYPE_CHECKING:
    from tests.simulation.world import World


class Clients:
    """All clients of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.kills: set[str] = set()  # requests that end the process of whoever computes them
        self._hang_ups: dict[str, int] = {}  # after so many tokens
        self._leases: dict[str, deeds.TakeLease] = {}  # by request

    def take(self, request_id: str) -> None:
        """A client reads, and may have had enough."""
        after = self._hang_ups.get(request_id)
        client = self._world.ledger.clients[request_id]
        if after is not None and client.n_got >= after and client.end is None:
            del self._hang_ups[request_id]
            self._at(1, self._hang_up, client)

    def _hang_up(self, client: Client) -> None:
        attempt = client.worker, client.request_id, client.attempt
        is_running = client.worker is not None
        if client.end is None:
            self._world.ledger.hung_up(client)
        actions = self._world.router.hang_up(client.request_id, self._world.edge.clock_ns)
        told = [(a.worker_id, a.request_id, a.attempt) for a in actions if isinstance(a, Abort)]
        text = f"{client.request_id} hangs up, and its worker goes on with it"
        self._world.watchers.claim("abort told", attempt in told or not is_running, text)
        self._world.edge.do(actions)

    def use(self, grant: Grant) -> None:
        """A client has its lease: it goes to the worker, or gives it back, or does nothing."""
        deed = self._leases[grant.request_id]
        life = self._world.workers[grant.worker_id].life
        if deed.uses_after_ms is not None and life is not None:
            at_ns = self._world.agenda.now_ns + deed.uses_after_ms * MS
            spec = self._world.ledger.clients[grant.request_id].spec
            self._world.agenda.put(at_ns, life, life.submit_direct, spec)
        else:
            self.ends_direct(grant.request_id)

    def ends_direct(self, request_id: str) -> None:
        if self._leases[request_id].releases:
            lease_id = self._world.ledger.clients[request_id].spec.lease_id
            self._at(1, self._release, lease_id)

    def _release(self, lease_id: str) -> None:
        is_known = lease_id in self._world.ledger.leases
        actions = self._world.router.release(lease_id, self._world.edge.clock_ns)
        was_known = actions is not None
        self._world.watchers.claim("leases", is_known == was_known, f"{lease_id}: known or not?")
        self._world.ledger.lease_ended(lease_id)
        self._world.edge.do(actions or [])

    def submit(self, deed: deeds.Submit) -> None:
        scope = adapter.scope_of(self._world.plan, deed)
        spec = adapter.request_spec(deed, scope, self._world.edge.clock_ns)
        if deed.tokenises_ms is not None:
            if not self._enter(spec):
                return
            gone_ms = deed.hangs_up_after_ms
            if gone_ms is not None and gone_ms < deed.tokenises_ms:
                self._at(gone_ms, self._leave, spec)
            else:
                self._at(deed.tokenises_ms, self.submit, replace(deed, tokenises_ms=None))
            return
        client = self._ask(spec)
        if deed.kills:
            self.kills.add(deed.request_id)
        if deed.hangs_up_after_tokens is not None:
            self._hang_ups[deed.request_id] = deed.hangs_up_after_tokens
        if deed.hangs_up_after_ms is not None:
            self._at(deed.hangs_up_after_ms, self._hang_up, client)
        self._world.edge.do(self._world.router.submit(spec, self._world.edge.clock_ns))

    def _enter(self, spec: RequestSpec) -> bool:
        """At the door, before it is tokenised."""
        n_bytes, tokens = adapter.n_bytes(spec), adapter.guessed_tokens(spec)
        has_room = self._has_room(n_bytes, tokens)
        is_in = self._world.router.enter(spec)
        text = f"{spec.request_id}: let in or not with {len(self._world.ledger.guests)} inside"
        self._world.watchers.claim("door", is_in == has_room, text)
        if is_in:
            self._world.ledger.entered(spec.request_id, n_bytes, tokens)
        else:
            self._world.ledger.tally["refused at the door"] += 1
        self._world.edge.do([])
        return is_in

    def _has_room(self, n_bytes: int, tokens: int) -> bool:
        """Whether one more may come into the house."""
        plan, ledger = self._world.plan, self._world.ledger
        return not ledger.guests or (
            len(ledger.guests) < plan.max_in_flight
            and ledger.n_bytes + n_bytes <= plan.max_in_flight_bytes
            and ledger.n_tokens + tokens <= plan.max_in_flight_tokens
        )

    def _leave(self, spec: RequestSpec) -> None:
        self._world.router.leave(spec.request_id)
        self._world.ledger.left(spec.request_id)
        self._world.edge.do([])

    def _ask(self, spec: RequestSpec) -> Client:
        return self._world.ledger.submitted(spec, self._world.edge.clock_ns, adapter.n_bytes(spec))

    def take_lease(self, deed: deeds.TakeLease) -> None:
        scope = adapter.scope_of(self._world.plan, deed)
        spec = adapter.lease_spec(deed, scope, self._world.edge.clock_ns)
        client = self._ask(spec)
        self._leases[deed.request_id] = deed
        if deed.hangs_up_after_ms is not None:
            self._at(deed.hangs_up_after_ms, self._give_lease_up, client)
        self._world.edge.do(self._world.router.submit(spec, self._world.edge.clock_ns))

    def _give_lease_up(self, client: Client) -> None:
        if client.end is None:
            self._hang_up(client)

    def _at(self, ms: int, call: Callable[..., None], *args) -> None:
        """So much later, where the router is."""
        world = self._world
        world.agenda.put(world.agenda.now_ns + ms * MS, world.edge, call, *args)
