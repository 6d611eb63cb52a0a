"""In what order those that wait get a worker: bands that age, nobody overtaken without end, and
policies that never wait by themselves only in their turn."""

from typing import TYPE_CHECKING, NamedTuple

from radixroute.router.policy.registry import POLICIES
from tests.simulation import adapter
from tests.simulation.ledger import Client

if TYPE_CHECKING:
    from tests.simulation.invariants import Watchers

_WAITS_BY_ITSELF = ("radix", "prefix_approx", "dynamo_wspt")
assert set(_WAITS_BY_ITSELF) < set(POLICIES)


class _Place(NamedTuple):
    """Where one stands that has lost no worker: by level, then by the turn of its lane, there by
    arrival."""

    level: int
    lane: tuple[str, int, str]  # tenant, band and need
    arrival_ns: int
    number: int


class Order:
    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._world = watchers.world
        self._places: dict[str, _Place] | None = None  # as of the first dispatch of an input

    def judge(self, client: Client) -> None:
        """It gets a worker."""
        if client.is_lost:
            return
        if self._places is None:
            self._places = self._stand()
        mine = self._places.pop(client.request_id, None)
        if mine is None:
            return
        is_planned = client.spec.policy in _WAITS_BY_ITSELF
        clients, is_stalled = self._world.ledger.clients, self._watchers.waiting.is_stalled
        for name, place in self._places.items():
            if not is_planned and _is_ahead(place, mine):
                text = f"{client.request_id} at {mine} goes before {name} at {place}"
                self._watchers.claim("turn", False, text)
            if place.arrival_ns < mine.arrival_ns and place.lane == mine.lane:
                clients[name].overtaken += not is_stalled

    def after(self) -> None:
        self._places = None

    def _stand(self) -> dict[str, _Place]:
        """Requests of one tenant and band age with the oldest of them."""
        ledger, now_ns = self._world.ledger, self._world.edge.clock_ns
        waiting = [client for client in ledger.waiting() if not client.is_lost]
        heads: dict[tuple[str, int, str], int] = {}
        for client in waiting:
            lane = _lane(client)
            heads[lane] = min(heads.get(lane, now_ns), client.spec.arrival_ns)
        return {client.request_id: _place(client, heads, now_ns) for client in waiting}


def _lane(client: Client) -> tuple[str, int, str]:
    return client.spec.tenant, client.spec.priority, client.spec.need


def _place(client: Client, heads: dict[tuple[str, int, str], int], now_ns: int) -> _Place:
    lane, spec = _lane(client), client.spec
    aged = (now_ns - heads[lane]) // adapter.AGE_NS
    level = max(0, spec.priority - aged)
    return _Place(level, lane, spec.arrival_ns, client.number)


def _is_ahead(place: _Place, mine: _Place) -> bool:
    """For certain: of several lanes of one level, whoever was served least goes first, and who
    needs something of a worker holds back nobody who needs another thing."""
    if place.lane[2] != mine.lane[2]:
        return False
    if place.level != mine.level:
        return place.level < mine.level
    is_older = (place.arrival_ns, place.number) < (mine.arrival_ns, mine.number)
    return place.lane == mine.lane and is_older
