"""Leases: bookings of clients that were routed here and stream from the worker themselves.

Owns which lease stands for which booking and when it lapses; the booking itself is the load book's.
A direct client's stream also shows in its worker's report as another session: counted twice while
both live, which errs on the side of sending less there.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.load import BookingId


@dataclass(frozen=True, slots=True)
class Lease:
    """One booking without a stream of ours."""

    lease_id: str
    request_id: str
    worker_id: WorkerId
    address: str  # host:port of its Engine service
    policy: str
    end_ns: int
    overlap_tokens: int

    @property
    def booking(self) -> BookingId:
        return BookingId(self.lease_id, 0)


class Leases:
    """Leases that have not ended, in the order in which they lapse."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_id.values())

    def grant(self, lease: Lease) -> None:
        self._by_id[lease.lease_id] = lease

    def end(self, lease_id: str) -> Lease | None:
        return self._by_id.pop(lease_id, None)

    def lapsed(self, now_ns: int) -> list[Lease]:
        """Pure: leases whose time is over, oldest first."""
        over: list[Lease] = []
        for lease in self._by_id.values():
            if lease.end_ns > now_ns:
                break
            over.append(lease)
        return over

    def on_worker(self, worker_id: WorkerId) -> list[Lease]:
        return [lease for lease in self._by_id.values() if lease.worker_id == worker_id]
