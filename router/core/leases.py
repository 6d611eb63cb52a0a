"""Leases: bookings of clients that were routed here and stream from the worker themselves.

Owns which lease stands for which booking and when it lapses; the booking itself is the load book's.
A direct client's stream also shows in its worker's report as another session: counted twice while
both live, which errs on the side of sending less there.
"""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from radixroute.radix.ids import WorkerId
from radixroute.router.workers.load import BookingId


class Lease(msgspec.Struct, frozen=True):
    """One booking without a stream of ours."""

    lease_id: str
    request_id: str
    worker_id: WorkerId
    address: str  # host:port of its Engine service
    policy: str
    end_ns: int  # unless its worker names it by then
    overlap_tokens: int

    @property
    def booking(self) -> BookingId:
        return BookingId(self.lease_id, 0)


class Leases:
    """Leases that have not ended.

    A worker names in its heartbeats the requests of direct clients that it runs or ran: by that a
    lease is seen, lives as long as its request, and ends with it. One that is never seen lapses
    soon; a client that took its time is served all the same, as load that the worker reports.
    """

    def __init__(self, *, ttl_ns: int) -> None:
        """`ttl_ns`: so long a lease lives after its worker named it last."""
        self._ttl_ns = ttl_ns
        self._by_id: dict[str, Lease] = {}
        self._id_by_request: dict[str, str] = {}
        # In the order in which they lapse: each list has one time to live.
        self._unseen: OrderedDict[str, int] = OrderedDict()
        self._seen: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_id.values())

    def grant(self, lease: Lease) -> None:
        self._by_id[lease.lease_id] = lease
        self._id_by_request[lease.request_id] = lease.lease_id
        self._unseen[lease.lease_id] = lease.end_ns

    def end(self, lease_id: str) -> Lease | None:
        lease = self._by_id.pop(lease_id, None)
        if lease is not None:
            del self._id_by_request[lease.request_id]
            self._unseen.pop(lease_id, None)
            self._seen.pop(lease_id, None)
        return lease

    def seen(self, worker_id: WorkerId, request_id: str, now_ns: int) -> None:
        """Its worker names it. Others' requests are no error."""
        lease = self._of(worker_id, request_id)
        if lease is not None:
            self._unseen.pop(lease.lease_id, None)
            self._seen[lease.lease_id] = now_ns + self._ttl_ns
            self._seen.move_to_end(lease.lease_id)

    def used(self, worker_id: WorkerId, request_id: str) -> Lease | None:
        """The lease of a request that its worker says has ended, which ends it."""
        lease = self._of(worker_id, request_id)
        return None if lease is None else self.end(lease.lease_id)

    def lapsed(self, now_ns: int) -> list[Lease]:
        """Pure: leases whose time is over."""
        over = list[Lease]()
        for ends in (self._unseen, self._seen):
            for lease_id, end_ns in ends.items():
                if end_ns > now_ns:
                    break
                over.append(self._by_id[lease_id])
        return over

    def on_worker(self, worker_id: WorkerId) -> list[Lease]:
        return [lease for lease in self._by_id.values() if lease.worker_id == worker_id]

    def _of(self, worker_id: WorkerId, request_id: str) -> Lease | None:
        lease = self._by_id.get(self._id_by_request.get(request_id, ""))
        return lease if lease is not None and lease.worker_id == worker_id else None
