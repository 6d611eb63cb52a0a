"""Waiting queue: accepted requests that no worker has yet, in the order in which they get one.

Owns the order; docs/queue.md argues for it. First those that lost a worker, in order of arrival:
their room is reserved. Then bands 0 to 9, 0 first; each `age_ns` of waiting lifts a request by one
band, so that none starves. In a band the tenant that was served least (`Tenants`), and of one
tenant by arrival. A policy looks at the bounded front of that order and may have its own inside it.

A lane is one tenant's requests of one band: the oldest is its head, and no other can be in a better
band than it. Verbs cost O(log n). No clock, no I/O; the dispatcher calls.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sortedcontainers import SortedDict, SortedList

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.core.queue.tenants import PREFILL_WEIGHT, Tenant, Tenants
from radixroute.router.core.requests import Request
from radixroute.router.messages.inputs import N_BANDS

# Tokens by which one tenant's requests may be looked at before another's in one front: what a
# policy's own order can move between tenants at most.
QUANTUM: Final = 16384


class _Key(NamedTuple):
    """When it came; equal times as they were accepted, however often one was sent back since."""

    arrival_ns: int
    number: int
    order: int


@dataclass(slots=True, eq=False)
class _Lane:
    """One tenant's waiting requests of one band."""

    tenant: Tenant
    band: int
    order: int
    requests: SortedDict = field(default_factory=SortedDict)  # _Key -> Request
    filed: tuple[int, int] | None = None  # its level and what the tenant was served, when filed

    @property
    def head(self) -> _Key:
        key: _Key = self.requests.peekitem(0)[0]
        return key


class _Place(NamedTuple):
    """Where a waiting request is."""

    key: _Key
    lane: _Lane | None  # None: among those that lost a worker


class Front(NamedTuple):
    """The first that wait, each group before the next."""

    lost: list[Request]  # they were with a worker that they lost, or that sent them back
    levels: list[list[Request]]  # of one band each, aged; in order


class WaitingQueue:
    """Requests without a worker."""

    def __init__(self, *, max_requests: int, max_tokens: int, age_ns: int) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._age_ns = age_ns
        self._places: dict[str, _Place] = {}
        self._lost: SortedDict = SortedDict()  # _Key -> Request
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._levels = [SortedList() for _ in range(N_BANDS)]  # (served, order of the lane, lane)
        self._due: list[tuple[int, int, _Lane]] = []  # heap: when a lane's head ages by a band
        self._stale: dict[int, _Lane] = {}  # lanes whose tenant was served since they were filed
        self.tenants = Tenants()
        self.policies: dict[str, int] = {}  # requests by the policy that they name; read only
        self._n_tokens = 0  # prompt tokens of all
        self._order = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, request: Request) -> bool:
        return request.request_id in self._places

    def __iter__(self) -> Iterator[Request]:
        """All of them, in no order that counts. O(n): for checks and for the end of a fleet."""
        yield from self._lost.values()
        for lane in self._lanes.values():
            yield from lane.requests.values()

    @property
    def n_tokens(self) -> int:
        """Prompt tokens that wait."""
        return self._n_tokens

    @property
    def n_lost(self) -> int:
        """Those of them that lost a worker."""
        return len(self._lost)

    def by_band(self) -> list[int]:
        """How many wait in each band, not aged; for whoever looks. O(lanes and lost ones)."""
        counts = [0] * N_BANDS
        for (_, band), lane in self._lanes.items():
            counts[band] += len(lane.requests)
        for request in self._lost.values():
            counts[request.spec.priority] += 1
        return counts

    def has_room(self, request: Request) -> bool:
        """For new requests only: one that lost its worker is never turned away here."""
        n_fresh = len(self._places) - len(self._lost)
        return n_fresh < self._max_requests and (
            self._n_tokens + request.prompt_tokens <= self._max_tokens or not self._places
        )

    def push(self, request: Request, now_ns: int) -> None:
        """Room is the caller's to ask for."""
        if request.request_id in self._places:
            raise BrokenInvariant(f"request {request.request_id} waits already")
        self._order += 1
        key = _Key(request.spec.arrival_ns, request.number, self._order)
        self._n_tokens += request.prompt_tokens
        self.policies[request.spec.policy] = self.policies.get(request.spec.policy, 0) + 1
        if request.is_resumed or request.emitted:
            self._lost[key] = request
            self._places[request.request_id] = _Place(key, None)
            return
        name, band = request.spec.tenant, request.spec.priority
        tenant = self.tenants.enter(name, self._least_served())
        lane = self._lanes.get((name, band))
        if lane is None:
            lane = self._lanes[name, band] = _Lane(tenant, band, self._order)
        lane.requests[key] = request
        self._places[request.request_id] = _Place(key, lane)
        if lane.head is key:
            self._file(lane, now_ns)

    def remove(self, request: Request, now_ns: int) -> None:
        """It waits no more."""
        place = self._places.pop(request.request_id, None)
        if place is None:
            raise BrokenInvariant(f"request {request.request_id} does not wait")
        self._n_tokens -= request.prompt_tokens
        self.policies[request.spec.policy] -= 1
        if not self.policies[request.spec.policy]:
            del self.policies[request.spec.policy]
        lane = place.lane
        if lane is None:
            del self._lost[place.key]
            return
        was_head = lane.head is place.key
        del lane.requests[place.key]
        if not lane.requests:
            self._unfile(lane)
            del self._lanes[lane.tenant.name, lane.band]
        elif was_head:
            self._file(lane, now_ns)
        self.tenants.leave(lane.tenant)

    def serve(self, tenant: str, *, prefill: int = 0, decode: int = 0) -> None:
        """This tenant was given so many tokens."""
        waiting = self.tenants.serve(tenant, prefill=prefill, decode=decode)
        if waiting is not None:
            for band in range(N_BANDS):
                lane = self._lanes.get((tenant, band))
                if lane is not None:
                    self._stale[lane.order] = lane

    def front(self, now_ns: int, limit: int) -> Front:
        """The first `limit` requests. O(limit log n), whatever waits behind them."""
        lost = [request for _, request in zip(range(limit), self._lost.values(), strict=False)]
        room = limit - len(lost)
        self._refile(now_ns)
        levels: list[list[Request]] = []
        for number, level in enumerate(self._levels):
            if room <= 0:
                break
            if level:
                taken, is_all = self._take(number, room)
                levels.append(taken)
                room -= len(taken)
                if not is_all:
                    break
        return Front(lost, levels)

    def check(self) -> None:
        """Raises BrokenInvariant."""
        waiting = list(self)
        if len(waiting) != len(self._places):
            raise BrokenInvariant("waiting requests and their places differ")
        if sum(request.prompt_tokens for request in waiting) != self._n_tokens:
            raise BrokenInvariant("waiting tokens do not add up")
        if sum(len(level) for level in self._levels) != len(self._lanes):
            raise BrokenInvariant("a lane is filed twice or not at all")
        by_tenant = dict.fromkeys(self.tenants.waiting, 0)
        for lane in self._lanes.values():
            by_tenant[lane.tenant.name] += len(lane.requests)
        if by_tenant != {name: tenant.n_waiting for name, tenant in self.tenants.waiting.items()}:
            raise BrokenInvariant("tenants and their waiting requests differ")

    def _take(self, number: int, room: int) -> tuple[list[Request], bool]:
        """By tenant: whoever was served least, what is taken here counted in; and whether the level
        is taken whole."""
        lanes, seen = iter(self._levels[number]), set[str]()
        opened: list[tuple[int, int, Iterator[Request], Request]] = []
        unopened = next(lanes, None)
        is_alone = len(self.tenants.waiting) == 1
        ends_at = unopened[0] + QUANTUM if unopened is not None else 0
        taken: list[Request] = []
        while len(taken) < room:
            # Lanes come by what their tenant was served: one not opened yet may be next.
            while unopened is not None and (not opened or unopened[:2] < opened[0][:2]):
                served, order, lane = unopened
                name = lane.tenant.name
                if name not in seen:
                    seen.add(name)
                    requests = self._of_tenant(name, number)
                    heapq.heappush(opened, (served, order, requests, next(requests)))
                unopened = next(lanes, None)
            if not opened:
                return taken, True
            served, order, requests, request = opened[0]
            if not is_alone and taken and served > ends_at:
                return taken, False
            taken.append(request)
            following = next(requests, None)
            if following is None:
                heapq.heappop(opened)
            else:
                served += PREFILL_WEIGHT * request.prompt_tokens
                heapq.heapreplace(opened, (served, order, requests, following))
        return taken, False

    def _of_tenant(self, name: str, number: int) -> Iterator[Request]:
        """A tenant's requests of one level by arrival: bands that have aged into it are one."""
        lanes = (self._lanes.get((name, band)) for band in range(N_BANDS))
        here = [lane for lane in lanes if lane is not None and lane.filed is not None]
        items = [lane.requests.items() for lane in here if lane.filed and lane.filed[0] == number]
        return (request for _, request in heapq.merge(*items))

    def _least_served(self) -> int | None:
        """Of those who wait; at most one lane a level is looked at."""
        firsts = [level[0][2].tenant.served for level in self._levels if level]
        return min(firsts, default=None)

    def _refile(self, now_ns: int) -> None:
        """Where time or service has changed a lane's place. O(log n) for each of them."""
        while self._due and self._due[0][0] <= now_ns:
            _, _, lane = heapq.heappop(self._due)
            if lane.requests:
                self._file(lane, now_ns)
        for lane in self._stale.values():
            if lane.requests:
                self._file(lane, now_ns)
        self._stale.clear()

    def _file(self, lane: _Lane, now_ns: int) -> None:
        self._unfile(lane)
        arrival_ns = lane.head.arrival_ns
        aged = max(0, now_ns - arrival_ns) // self._age_ns
        level = max(0, lane.band - aged)
        lane.filed = level, lane.tenant.served
        self._levels[level].add((lane.tenant.served, lane.order, lane))
        if level:
            heapq.heappush(self._due, (arrival_ns + (aged + 1) * self._age_ns, lane.order, lane))

    def _unfile(self, lane: _Lane) -> None:
        if lane.filed is not None:
            level, served = lane.filed
            self._levels[level].remove((served, lane.order, lane))
            lane.filed = None
