"""Line: who has one need, or none. Not every worker can take them: adapters, verbatim requests.

Owns its requests in order: those that lost a worker, and lanes filed by level and by what their
tenants were served. A lane is one tenant's requests of one band: the oldest is its head, and no
other can be in a better band than it. `WaitingQueue` alone calls.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sortedcontainers import SortedDict, SortedList

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.core.queue.tenants import Tenant
from radixroute.router.core.requests import Request
from radixroute.router.messages.inputs import N_BANDS


class Key(NamedTuple):
    """When it came; equal times as they were accepted, however often one was sent back since."""

    arrival_ns: int
    number: int
    order: int


@dataclass(slots=True, eq=False)
class Lane:
    """One tenant's waiting requests of one band, in one line."""

    line: "Line"
    tenant: Tenant
    band: int
    order: int
    requests: SortedDict = field(default_factory=SortedDict)  # Key -> Request
    filed: tuple[int, int] | None = None  # its level and what the tenant was served, when filed

    @property
    def head(self) -> Key:
        key: Key = self.requests.peekitem(0)[0]
        return key


class Line:
    """Of one need; empty: what all workers serve."""

    def __init__(self, need: str) -> None:
        self.need = need
        self.lost: SortedDict = SortedDict()  # Key -> Request
        self.levels = [SortedList() for _ in range(N_BANDS)]  # (served, order of the lane, lane)
        self.policies: dict[str, int] = {}  # requests by the policy that they name
        self._waiting: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Request]:
        """Whoever began to wait first comes first."""
        return iter(self._waiting.values())

    def add(self, request: Request) -> None:
        self._waiting[request.request_id] = request
        policy = request.spec.policy
        self.policies[policy] = self.policies.get(policy, 0) + 1

    def take_out(self, request: Request) -> None:
        del self._waiting[request.request_id]
        policy = request.spec.policy
        self.policies[policy] -= 1
        if not self.policies[policy]:
            del self.policies[policy]

    def first(self, number: int) -> Request | None:
        """Of a level; None: it is empty."""
        if not self.levels[number]:
            return None
        lane: Lane = self.levels[number][0][2]
        request: Request = lane.requests.peekitem(0)[1]
        return request

    def file(self, lane: Lane, level: int) -> None:
        lane.filed = level, lane.tenant.served
        self.levels[level].add((lane.tenant.served, lane.order, lane))

    def unfile(self, lane: Lane) -> None:
        if lane.filed is not None:
            level, served = lane.filed
            self.levels[level].remove((served, lane.order, lane))
            lane.filed = None

    def check(self) -> None:
        """Raises BrokenInvariant."""
        lanes = [lane for level in self.levels for _, _, lane in level]
        if len(self) != len(self.lost) + sum(len(lane.requests) for lane in lanes):
            raise BrokenInvariant(f"need {self.need!r}: a request is in no lane, or in two")
        if len(self) != sum(self.policies.values()):
            raise BrokenInvariant(f"need {self.need!r}: policies do not add up")
        if any(request.spec.need != self.need for request in self):
            raise BrokenInvariant(f"need {self.need!r}: a request waits for another one")


class Place(NamedTuple):
    """Where a waiting request is."""

    key: Key
    line: Line
    lane: Lane | None  # None: among those that lost a worker


def firsts(lines: Iterable[Line], number: int) -> list[Request]:
    """Of a level of each."""
    found = (line.first(number) for line in lines)
    return [request for request in found if request is not None]
