"""Waiting queue: accepted requests that no worker has yet, in the order in which they get one.

Owns the order; docs/queue.md argues for it. First those that lost a worker, in order of arrival:
their room is reserved. Then bands 0 to 9, 0 first; each `age_ns` of waiting lifts a request by one
band, so that none starves. In a band the tenant that was served least (`Tenants`), and of one
tenant by arrival. A policy looks at the bounded front of that order and may have its own inside it.

Whoever has a need that not every worker meets stands in a `Line` of its own, so that a front can
leave out those that nobody could take. Verbs cost O(log n), and O(lines) where all of them must be
looked at. No clock, no I/O; the dispatcher calls.
"""

import heapq
from collections.abc import Container, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.core.queue.line import Key, Lane, Line, Place, firsts
from radixroute.router.core.queue.tenants import PREFILL_WEIGHT, Tenants
from radixroute.router.core.requests import Request
from radixroute.router.counters import Count
from radixroute.router.messages.inputs import N_BANDS

# Tokens by which one tenant's requests may be looked at before another's in one front: what a
# policy's own order can move between tenants at most.
QUANTUM: Final = 16384


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
        self._places: dict[str, Place] = {}
        # By need: those in which somebody waits, and always that of no need.
        self._lines = {"": Line("")}
        self._lanes: dict[str, dict[tuple[str, int], Lane]] = {}  # by tenant; need and band
        self._due: list[tuple[int, int, Lane]] = []  # heap: when a lane's head ages by a band
        self._stale: dict[int, Lane] = {}  # lanes whose tenant was served since they were filed
        self.tenants = Tenants()
        self.policies: dict[str, int] = {}  # requests by the policy that they name; read only
        self._n_tokens = 0  # prompt tokens of all
        self._n_lost = 0
        self._order = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, request: Request) -> bool:
        return request.request_id in self._places

    def __iter__(self) -> Iterator[Request]:
        """All of them, in no order that counts. O(n): for checks and for the end of a fleet."""
        for line in self._lines.values():
            yield from line

    @property
    def lines(self) -> Mapping[str, Line]:
        """By need: those in which somebody waits, and that of no need. Read only."""
        return self._lines

    @property
    def n_tokens(self) -> int:
        """Prompt tokens that wait."""
        return self._n_tokens

    @property
    def n_lost(self) -> int:
        """Those of them that lost a worker."""
        return self._n_lost

    def by_band(self) -> list[int]:
        """How many wait in each band, not aged; for whoever looks. O(lanes and lost ones)."""
        counts = [0] * N_BANDS
        for lanes in self._lanes.values():
            for (_, band), lane in lanes.items():
                counts[band] += len(lane.requests)
        for line in self._lines.values():
            for request in line.lost.values():
                counts[request.spec.priority] += 1
        return counts

    def limit_reached(self, request: Request) -> Count | None:
        """What a new one is refused for now; None: it may wait. One that lost its worker is never
        turned away here."""
        if len(self._places) - self._n_lost >= self._max_requests:
            return Count.WAITING_FULL
        is_too_much = self._n_tokens + request.prompt_tokens > self._max_tokens
        return Count.WAITING_FULL_OF_TOKENS if is_too_much and self._places else None

    def push(self, request: Request, now_ns: int) -> None:
        """Room is the caller's to ask for."""
        if request.request_id in self._places:
            raise BrokenInvariant(f"request {request.request_id} waits already")
        self._order += 1
        spec = request.spec
        key = Key(spec.arrival_ns, request.number, self._order)
        self._n_tokens += request.prompt_tokens
        self.policies[spec.policy] = self.policies.get(spec.policy, 0) + 1
        line = self._lines.get(spec.need)
        if line is None:
            line = self._lines[spec.need] = Line(spec.need)
        line.add(request)
        if request.is_resumed or request.emitted:
            line.lost[key] = request
            self._n_lost += 1
            self._places[request.request_id] = Place(key, line, None)
            return
        lane = self._lane(line, spec.tenant, spec.priority)
        lane.requests[key] = request
        self._places[request.request_id] = Place(key, line, lane)
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
        line, lane = place.line, place.lane
        line.take_out(request)
        if lane is None:
            del line.lost[place.key]
            self._n_lost -= 1
        else:
            self._leave(lane, place.key, now_ns)
        if line.need and not len(line):
            del self._lines[line.need]

    def serve(self, tenant: str, *, prefill: int = 0, decode: int = 0) -> None:
        """This tenant was given so many tokens."""
        waiting = self.tenants.serve(tenant, prefill=prefill, decode=decode)
        if waiting is not None:
            for lane in self._lanes[tenant].values():
                self._stale[lane.order] = lane

    def front(
        self,
        now_ns: int,
        limit: int,
        *,
        busy: Container[str] = (),
        parked: Container[str] = (),
    ) -> Front:
        """The first `limit` requests. O(limit log n), whatever waits behind them.

        Without those whose needs are `parked`; and of each that is `busy` only the
        first of a level, on top: nobody can take it, but others may have to stay behind it.
        """
        lines = [line for name, line in self._lines.items() if name not in parked]
        lost = self._first_lost(lines, limit) if self._n_lost else []
        room = limit - len(lost)
        self._refile(now_ns)
        taking = {line.need: line for line in lines if line.need not in busy}
        waiting = [line for line in lines if line.need in busy]
        levels: list[list[Request]] = []
        for number in range(N_BANDS):
            if room <= 0:
                break
            level = firsts(waiting, number) if waiting else []
            filed = [line.levels[number] for line in taking.values() if line.levels[number]]
            is_all = True
            if filed:
                taken, is_all = self._take(filed, taking, number, room)
                level += taken
                room -= len(taken)
            if level:
                levels.append(level)
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
        if sum(len(line.lost) for line in self._lines.values()) != self._n_lost:
            raise BrokenInvariant("lost requests do not add up")
        n_filed = sum(len(level) for line in self._lines.values() for level in line.levels)
        if n_filed != sum(len(lanes) for lanes in self._lanes.values()):
            raise BrokenInvariant("a lane is filed twice or not at all")
        for line in self._lines.values():
            line.check()
        by_tenant = {
            name: sum(len(lane.requests) for lane in lanes.values())
            for name, lanes in self._lanes.items()
        }
        if by_tenant != {name: tenant.n_waiting for name, tenant in self.tenants.waiting.items()}:
            raise BrokenInvariant("tenants and their waiting requests differ")

    def _first_lost(self, lines: list[Line], limit: int) -> list[Request]:
        in_order = heapq.merge(*(line.lost.items() for line in lines))
        return [request for _, (_, request) in zip(range(limit), in_order, strict=False)]

    def _take(
        self, filed: list[SortedList], lines: Container[str], number: int, room: int
    ) -> tuple[list[Request], bool]:
        """By tenant: whoever was served least, what is taken here counted in; and whether the level
        is taken whole. `filed`: the lanes of the level in these lines."""
        is_alone = len(self.tenants.waiting) == 1
        if is_alone and len(filed) == 1 and len(filed[0]) == 1:  # nearly always
            lane = filed[0][0][2]
            return list(islice(lane.requests.values(), room)), len(lane.requests) < room
        lanes = iter(filed[0]) if len(filed) == 1 else heapq.merge(*filed)
        seen = set[str]()
        opened: list[tuple[int, int, Iterator[Request], Request]] = []
        unopened = next(lanes, None)
        ends_at = unopened[0] + QUANTUM if unopened is not None else 0
        taken: list[Request] = []
        while len(taken) < room:
            # Lanes come by what their tenant was served: one not opened yet may be next.
            while unopened is not None and (not opened or unopened[:2] < opened[0][:2]):
                served, order, lane = unopened
                name = lane.tenant.name
                if name not in seen:
                    seen.add(name)
                    requests = self._of_tenant(name, number, lines)
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

    def _of_tenant(self, name: str, number: int, lines: Container[str]) -> Iterator[Request]:
        """A tenant's requests of one level by arrival: bands that have aged into it are one."""
        lanes = self._lanes[name].values()
        here = [lane for lane in lanes if lane.filed is not None and lane.line.need in lines]
        items = [lane.requests.items() for lane in here if lane.filed and lane.filed[0] == number]
        return (request for _, request in heapq.merge(*items))

    def _least_served(self) -> int | None:
        """Of those who wait; at most one lane a level is looked at."""
        levels = (level for line in self._lines.values() for level in line.levels if level)
        return min((level[0][2].tenant.served for level in levels), default=None)

    def _lane(self, line: Line, name: str, band: int) -> Lane:
        """Where one more waits."""
        least = None if name in self.tenants.waiting else self._least_served()
        tenant = self.tenants.enter(name, least)
        lanes = self._lanes.setdefault(name, {})
        lane = lanes.get((line.need, band))
        if lane is None:
            lane = lanes[line.need, band] = Lane(line, tenant, band, self._order)
        return lane

    def _leave(self, lane: Lane, key: Key, now_ns: int) -> None:
        was_head = lane.head is key
        del lane.requests[key]
        if not lane.requests:
            lane.line.unfile(lane)
            lanes = self._lanes[lane.tenant.name]
            del lanes[lane.line.need, lane.band]
            if not lanes:
                del self._lanes[lane.tenant.name]
        elif was_head:
            self._file(lane, now_ns)
        self.tenants.leave(lane.tenant)

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

    def _file(self, lane: Lane, now_ns: int) -> None:
        arrival_ns = lane.head.arrival_ns
        aged = max(0, now_ns - arrival_ns) // self._age_ns
        level = max(0, lane.band - aged)
        if lane.filed != (level, lane.tenant.served):
            lane.line.unfile(lane)
            lane.line.file(lane, level)
        if level:
            heapq.heappush(self._due, (arrival_ns + (aged + 1) * self._age_ns, lane.order, lane))
